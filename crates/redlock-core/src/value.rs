//! Whose lock is it?

use std::{fmt, str::FromStr, sync::Arc};

use crate::InvalidRequest;

/// The random signature of one attempt: only who knows it can extend or release the lock.
///
/// 160 random bits as 40 hexadecimal digits, fresh for every attempt. Cheap to clone. `Debug` shows
/// only its first digits; [`as_str`](Self::as_str) and [`FromStr`] carry it to another process.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LockValue(Arc<str>);

impl LockValue {
    /// A value nobody else has, from a cryptographically secure generator.
    #[must_use]
    pub fn random() -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 40];
        for (digits, byte) in text.chunks_exact_mut(2).zip(rand::random::<[u8; 20]>()) {
            let digit = |nibble| DIGITS[usize::from(nibble)];
            digits.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Self(String::from_utf8_lossy(&text).into())
    }

    /// The text that stands on the nodes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LockValue {
    type Err = InvalidRequest;

    /// Takes over a value made elsewhere: any non-empty text of visible ASCII characters.
    fn from_str(text: &str) -> Result<Self, InvalidRequest> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidRequest::Value)
        }
    }
}

impl fmt::Debug for LockValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockValue({})", shortened(&self.0))
    }
}

/// The first characters of a value, and never all of them: enough to tell two apart in a log.
pub(crate) fn shortened(value: &str) -> String {
    let shown = (value.chars().count() / 2).min(4);
    let shown: String = value.chars().take(shown).collect();
    format!("{}…", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn values_are_fresh_and_printable() {
        let values: HashSet<_> = (0..10_000).map(|_| LockValue::random()).collect();
        assert_eq!(values.len(), 10_000);
        for value in values {
            assert_eq!(value.as_str().len(), 40, "160 bits");
            assert_eq!(value.as_str().parse(), Ok(value));
        }
    }

    #[test]
    fn unprintable_values_are_refused_and_debug_hides_the_rest() {
        for text in ["", "a b", "a\n", "ü"] {
            assert_eq!(text.parse::<LockValue>(), Err(InvalidRequest::Value));
        }
        let value: LockValue = "0123456789".parse().unwrap();
        assert_eq!(format!("{value:?}"), "LockValue(0123…)");
    }
}
