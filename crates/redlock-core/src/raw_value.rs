//! What stands on a node, whoever put it there.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::{LockValue, value::shortened};

/// The value that a resource carries on a node: that of a lock, or any bytes that others have put there.
///
/// Who knows the value of a lock can release it: `Debug` and `Display` show only its first characters.
/// It is equal to a [`LockValue`] of the same text.
///
/// ```
/// use redlock_core::{LockValue, RawValue};
///
/// let raw = RawValue::from("0123456789abcdef");
/// assert_eq!(raw.to_string(), "0123…");
/// let value: LockValue = raw.text().parse()?;
/// assert_eq!(raw, value);
/// # Ok::<(), redlock_core::InvalidRequest>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawValue(Arc<[u8]>);

impl RawValue {
    /// The whole value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The whole value as a text, in which `U+FFFD` stands for what is no UTF-8.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&[u8]> for RawValue {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for RawValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for RawValue {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for RawValue {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&LockValue> for RawValue {
    fn from(value: &LockValue) -> Self {
        value.as_str().into()
    }
}

impl PartialEq<LockValue> for RawValue {
    fn eq(&self, value: &LockValue) -> bool {
        self.as_bytes() == value.as_str().as_bytes()
    }
}

impl fmt::Debug for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawValue({self})")
    }
}

impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shortened(&self.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_in_part_and_told_whole() {
        for (whole, shown) in [
            ("0123456789", "0123…"),
            ("äöüß€", "äö…"),
            ("ab", "a…"),
            ("a", "…"),
            ("", "…"),
            ("\n\n\n\n\n\n\n\n", "\\n\\n\\n\\n…"),
        ] {
            let value = RawValue::from(whole);
            assert_eq!(value.to_string(), shown);
            assert_eq!(format!("{value:?}"), format!("RawValue({shown})"));
            assert_eq!(value.text(), whole);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_compared_all_the_same() {
        let [one, other] = [0xfe_u8, 0xff].map(|byte| RawValue::from(vec![byte; 20]));
        assert_eq!(one.text(), other.text());
        assert_ne!(one, other);
    }
}
