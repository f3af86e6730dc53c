//! Chromium without a window, driven through the DevTools protocol over two pipes: messages are JSON, a zero byte ends each.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long an answer may take: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

pub(crate) struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    n_commands: u64,
    session: String,
    /// What the page has reported.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

/// A Chromium of this machine.
fn executable() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let candidates =
        std::env::split_paths(&folders).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    candidates.into_iter().find(|path| path.is_file())
}

impl Browser {
    /// Starts a browser with an empty page, if there is one on this machine.
    pub(crate) fn start() -> Option<Self> {
        if !cfg!(unix) {
            return None;
        }
        let executable = executable()?;
        let profile = tempfile::tempdir().unwrap();
        // The shell gives the pipes the numbers that Chromium expects: it reads from 3 and writes to 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"])
            .arg(executable)
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
            ])
            .args([
                "--disable-component-update",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let parts = BufReader::new(answers).split(0).map_while(Result::ok);
            for message in parts {
                let message = serde_json::from_slice(&message).expect("Chromium writes JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            commands,
            messages,
            n_commands: 0,
            session: String::new(),
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.n_commands += 1;
        let id = self.n_commands;
        let mut command = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.clone().into();
        }
        self.commands
            .write_all(format!("{command}\0").as_bytes())
            .unwrap();
        self.commands.flush().unwrap();
        loop {
            let mut message = self.message(method);
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    fn message(&mut self, what: &str) -> Value {
        let message = self.messages.recv_timeout(PATIENCE);
        message.unwrap_or_else(|e| panic!("no answer to {what}: {e}"))
    }

    /// Opens a file, and waits until it is loaded.
    pub(crate) fn open(&mut self, path: &Path) {
        self.events.clear();
        self.call(
            "Page.navigate",
            json!({"url": format!("file://{}", path.display())}),
        );
        while !self
            .events
            .iter()
            .any(|event| event["method"] == "Page.loadEventFired")
        {
            let message = self.message("Page.navigate");
            self.events.push(message);
        }
    }

    /// The value of an expression in the page.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {}",
            answer["exceptionDetails"]
        );
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub(crate) fn wait_for(&mut self, expression: &str) {
        let started = Instant::now();
        while self.eval(expression) != true {
            assert!(started.elapsed() < PATIENCE, "never true: {expression}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn key(&mut self, key: &str) {
        let is_text = key.chars().count() == 1;
        let mut down = json!({"type": "keyDown", "key": key});
        if is_text {
            down["text"] = key.into();
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key}),
        );
    }

    /// Moves the pointer to a place of the first element that fits, as shares of its width and height.
    pub(crate) fn hover(&mut self, selector: &str, across: f64, down: f64) {
        let js = format!(
            "(() => {{ const node = document.querySelector({selector:?}); \
             node.scrollIntoView({{block: 'center'}}); const box = node.getBoundingClientRect(); \
             return [box.left + box.width * {across}, box.top + box.height * {down}]; }})()"
        );
        let at = self.eval(&js);
        let params = json!({"type": "mouseMoved", "x": at[0], "y": at[1]});
        self.call("Input.dispatchMouseEvent", params);
    }

    /// Sets the size of the window, and what the system prefers.
    pub(crate) fn look(&mut self, width: u32, is_dark: bool) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = ["light", "dark"][usize::from(is_dark)];
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// Writes what is seen as PNG, if `RPG_SCREENSHOTS` names a folder for that.
    pub(crate) fn screenshot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("RPG_SCREENSHOTS") else {
            return;
        };
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let path = Path::new(&folder).join(format!("{name}.png.base64"));
        std::fs::write(path, picture["data"].as_str().unwrap()).unwrap();
    }

    /// Errors and warnings of the page, and what it has asked the network for.
    pub(crate) fn problems(&mut self) -> Vec<String> {
        // Everything that was reported before the answer to this.
        self.eval("0");
        let problem = |event: &Value| -> Option<String> {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" => Some(params["args"].to_string()),
                "Log.entryAdded" => Some(params["entry"].to_string()),
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str()?;
                    let is_ours = url.starts_with("file://") || url.starts_with("data:");
                    (!is_ours).then(|| url.to_owned())
                }
                _ => None,
            }
        };
        self.events.iter().filter_map(problem).collect()
    }

    /// How many files the page has loaded.
    pub(crate) fn n_files(&self) -> usize {
        let is_file = |event: &&Value| {
            let url = event["params"]["request"]["url"].as_str();
            event["method"] == "Network.requestWillBeSent"
                && url.is_some_and(|url| url.starts_with("file:"))
        };
        self.events.iter().filter(is_file).count()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closing says it to all of its processes.
        let _ = self
            .commands
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
