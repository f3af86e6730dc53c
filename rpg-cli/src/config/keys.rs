//! One declaration per key: its field, its default and its row in the reference.
//!
//! [`config_section!`] makes a section of the config from the declarations of its keys, so that a key without
//! documentation does not compile. [`foreign_section!`] describes a section that another crate defines.

use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer};
use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

/// A key, as the reference shows it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct KeyDoc {
    /// Its name in its section.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// What it can be.
    pub values: fn() -> Values,
    /// What it is where a config does not give it: a value, or nothing. A key without this must be given.
    pub default: Option<fn() -> Option<toml::Value>>,
}

/// What a key can be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Values {
    /// One value; the text says which are allowed.
    Plain(String),
    /// A table with these keys.
    Table(&'static [KeyDoc]),
    /// Tables with these keys, by names of the user's choice.
    Named(&'static [KeyDoc]),
    /// A table that is described in this place of the documentation.
    Page(&'static str),
}

/// A type that a key can have.
pub trait ConfigType {
    /// Its values.
    fn values() -> Values;
}

/// The rows of the reference for the declarations of some keys.
macro_rules! key_docs {
    ($( $(#[doc = $doc:literal])+ $key:ident: $type:ty $(= $default:expr)?, )*) => {
        &[$(
            $crate::config::keys::KeyDoc {
                name: stringify!($key),
                doc: concat!($($doc, "\n"),+),
                values: <$type as $crate::config::keys::ConfigType>::values,
                default: $crate::config::keys::key_docs!(@default $type $(= $default)?),
            },
        )*]
    };
    (@default $type:ty) => { None };
    (@default $type:ty = $default:expr) => {
        // TOML has no value for nothing: `None` is an error here.
        Some(|| toml::Value::try_from::<$type>($default).ok())
    };
}
pub(super) use key_docs;

/// Declares a section: `key: Type` must be given, `key: Type = default` may be left out, and unknown keys are
/// errors. Where every key has a default, the section has one.
///
/// `struct Section via Raw` reads the section as a `Raw` first, which becomes the section by `TryFrom`.
macro_rules! config_section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $type:ty $(= $default:expr)?, )*
        }
    ) => {
        $crate::config::keys::config_section! {
            @declare $(#[doc = $about])+ $name {
                $( $(#[doc = $doc])+ $key: $type $(= $default)?, )*
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields, expecting = "a table")]
                struct Given {
                    $( $key: Option<$type>, )*
                }
                let given = Given::deserialize(deserializer)?;
                Ok(Self {$(
                    $key: match given.$key {
                        Some(value) => value,
                        None => $crate::config::keys::config_section!(@absent D $key $($default)?),
                    },
                )*})
            }
        }
    };
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident via $raw:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $type:ty $(= $default:expr)?, )*
        }
    ) => {
        $crate::config::keys::config_section! {
            @declare $(#[doc = $about])+ $name {
                $( $(#[doc = $doc])+ $key: $type $(= $default)?, )*
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let raw = <$raw as serde::Deserialize>::deserialize(deserializer)?;
                Self::try_from(raw).map_err(serde::de::Error::custom)
            }
        }
    };
    (
        @declare $(#[doc = $about:literal])+ $name:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $type:ty $(= $default:expr)?, )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $key: $type, )*
        }

        impl $name {
            /// The keys of the section.
            pub const KEYS: &'static [$crate::config::keys::KeyDoc] =
                $crate::config::keys::key_docs! {
                    $( $(#[doc = $doc])+ $key: $type $(= $default)?, )*
                };
        }

        impl $crate::config::keys::ConfigType for $name {
            fn values() -> $crate::config::keys::Values {
                $crate::config::keys::Values::Table(Self::KEYS)
            }
        }

        $crate::config::keys::config_section!(@default $name $($key [$($default)?])*);
    };
    (@absent $deserializer:ident $key:ident) => {
        return Err(serde::de::Error::missing_field(stringify!($key)))
    };
    (@absent $deserializer:ident $key:ident $default:expr) => {
        $default
    };
    (@default $name:ident $($key:ident [$default:expr])*) => {
        impl Default for $name {
            fn default() -> Self {
                Self { $( $key: $default, )* }
            }
        }
    };
    // Some key must be given.
    (@default $name:ident $($rest:tt)*) => {};
}
pub(super) use config_section;

/// Describes a section that another crate defines, in the syntax of [`config_section!`]. Here the types of keys
/// are those that check the values, by `TryFrom`.
macro_rules! foreign_section {
    ($name:ty {
        $( $(#[doc = $doc:literal])+ $key:ident: $type:ty $(= $default:expr)?, )*
    }) => {
        impl $crate::config::keys::ConfigType for $name {
            fn values() -> $crate::config::keys::Values {
                const KEYS: &[$crate::config::keys::KeyDoc] = $crate::config::keys::key_docs! {
                    $( $(#[doc = $doc])+ $key: $type $(= $default)?, )*
                };
                $crate::config::keys::Values::Table(KEYS)
            }
        }

        impl $crate::config::keys::ForeignSection for $name {
            // Where the declared type is that of the field, every value passes.
            #[allow(clippy::clone_on_copy, clippy::useless_conversion)]
            fn check(&self) -> Result<(), $crate::config::keys::BadKey> {
                $(
                    <$type>::try_from(self.$key.clone())
                        .map_err(|e| $crate::config::keys::BadKey::new(stringify!($key), e))?;
                )*
                Ok(())
            }
        }
    };
}
pub(super) use foreign_section;

/// A section that another crate defines and this one checks.
pub trait ForeignSection {
    /// Refuses the first key whose value is not allowed.
    fn check(&self) -> Result<(), BadKey>;
}

/// A key of a foreign section has a value that is not allowed.
///
/// The text is `.key: found …; expected …`: it continues the path of the section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadKey(String);

impl BadKey {
    pub(super) fn new(key: &str, error: impl fmt::Display) -> Self {
        Self(at_path(&format!(".{key}"), &error.to_string()))
    }
}

/// A message about what is at `path`. One that begins with a dot is about something below it.
pub(super) fn at_path(path: &str, message: &str) -> String {
    if message.starts_with('.') {
        format!("{path}{message}")
    } else {
        format!("{path}: {message}")
    }
}

/// A foreign section whose values have been checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checked<T>(T);

impl<T: ForeignSection> Checked<T> {
    /// Refuses a section with a value that is not allowed.
    pub fn new(section: T) -> Result<Self, BadKey> {
        section.check()?;
        Ok(Self(section))
    }

    /// The section.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Serialize> Serialize for Checked<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: ForeignSection + Deserialize<'de>> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(T::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<T: ConfigType> ConfigType for Checked<T> {
    fn values() -> Values {
        T::values()
    }
}

impl<T: ConfigType> ConfigType for Option<T> {
    fn values() -> Values {
        T::values()
    }
}

impl<T: ConfigType> ConfigType for [T; 2] {
    fn values() -> Values {
        match T::values() {
            Values::Plain(each) => Values::Plain(format!("a list of two, each {each}")),
            other => other,
        }
    }
}

/// Implements [`ConfigType`] for types of one value.
macro_rules! plain_values {
    ($($type:ty: $values:expr,)*) => {$(
        impl $crate::config::keys::ConfigType for $type {
            fn values() -> $crate::config::keys::Values {
                $crate::config::keys::Values::Plain($values.into())
            }
        }
    )*};
}
pub(super) use plain_values;

plain_values! {
    bool: "`true`, `false`",
    u64: "a whole number",
    usize: "a whole number",
    String: "text",
    PathBuf: "a path",
    Vec<String>: "a list of texts",
}

/// The names of the variants of an enum, as a config spells them.
pub(super) fn variants<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    // No variant has this name; the error knows those that exist.
    let nameless: StrDeserializer<'de, VariantNames> = "".into_deserializer();
    T::deserialize(nameless).err().map_or(&[], |names| names.0)
}

/// The names of an enum's variants, for the reference.
pub(super) fn one_of<'de, T: Deserialize<'de>>() -> String {
    let names = variants::<T>().iter().map(|name| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

#[derive(Debug)]
struct VariantNames(&'static [&'static str]);

impl fmt::Display for VariantNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the variants are {:?}", self.0)
    }
}

impl std::error::Error for VariantNames {}

impl Error for VariantNames {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        Self(expected)
    }
}
