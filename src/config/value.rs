//! Values as the old program wrote them: `UNSET` and the empty text mean unset, numbers may stand in quotes.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A setting that may be absent or unset.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Setting<T>(pub(super) Option<T>);

impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value may be a secret.
        f.write_str(if self.0.is_some() { "set" } else { "unset" })
    }
}

impl<T> Default for Setting<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Setting<T> {
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

/// What can stand in a setting.
pub(super) trait Value: FromStr {
    /// What an error says is wanted. An error never repeats the value, which may be a secret.
    const WANTED: &'static str;
}

impl Value for String {
    const WANTED: &'static str = "a text";
}
impl Value for PathBuf {
    const WANTED: &'static str = "a path";
}
impl Value for bool {
    const WANTED: &'static str = "true or false";
}
impl Value for u16 {
    const WANTED: &'static str = "a number from 0 to 65535";
}
impl Value for u32 {
    const WANTED: &'static str = "a number from 0 to 4294967295";
}
impl Value for u64 {
    const WANTED: &'static str = "a number";
}

/// Reads a text: nothing where it says that nothing is set.
pub(super) fn is_unset(text: &str) -> bool {
    text.is_empty() || text == "UNSET"
}

impl<'de, T: Value> Deserialize<'de> for Setting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);
        impl<T: Value> Any<T> {
            fn parse<E: Error>(text: &str) -> Result<Setting<T>, E> {
                text.parse().map(|value| Setting(Some(value))).map_err(|_| E::custom(format!("expected {}", T::WANTED)))
            }
        }
        impl<T: Value> Visitor<'_> for Any<T> {
            type Value = Setting<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::WANTED)
            }
            fn visit_unit<E: Error>(self) -> Result<Setting<T>, E> {
                Ok(Setting(None))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Setting<T>, E> {
                if is_unset(text) { Ok(Setting(None)) } else { Self::parse(text) }
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Setting<T>, E> {
                Self::parse(&value.to_string())
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Setting<T>, E> {
                Self::parse(&value.to_string())
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Setting<T>, E> {
                Self::parse(&value.to_string())
            }
        }
        deserializer.deserialize_any(Any(PhantomData))
    }
}
