//! Which keys a Redis Cluster keeps together.

use crate::Resources;

/// Says whether the keys of these resources, each its name behind `prefix`, are in one slot of a Redis
/// Cluster: only those can be locked together. See [`LockBackend::check`](crate::LockBackend::check).
///
/// # Errors
///
/// A text for the user that names two resources that are not.
pub fn same_slot(prefix: &str, resources: &Resources) -> Result<(), String> {
    let slot = |name: &str| hash_slot(&format!("{prefix}{name}"));
    let first = &resources[0];
    match resources.iter().find(|name| slot(name) != slot(first)) {
        None => Ok(()),
        Some(other) => Err(format!(
            "{first:?} and {other:?} are in different slots of the cluster; give them a common {{tag}}, \
             as in \"{{order}}:1\" and \"{{order}}:2\""
        )),
    }
}

/// How the keys of fences begin, behind the key prefix.
pub(crate) const FENCES: &str = "redlock:fence:";

/// The key of a resource's fence, in the slot of the resource's own key.
///
/// A name with a brace that is no tag has it in another slot, so that a cluster refuses it.
pub(crate) fn fence_of(prefix: &str, name: &str) -> String {
    let key = format!("{prefix}{name}");
    if tag(&key).is_some() {
        format!("{prefix}{FENCES}{name}")
    } else {
        format!("{prefix}{FENCES}{{{key}}}")
    }
}

/// What stands between the first `{` of a key and the next `}`, unless that is empty.
fn tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    Some(tag).filter(|tag| !tag.is_empty())
}

/// The slot of a key, by the Redis Cluster specification: of its tag or, without one, of the whole key.
fn hash_slot(key: &str) -> u16 {
    let hashed = tag(key).unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_slots_are_those_of_the_specification() {
        assert_eq!(hash_slot("123456789"), 0x31C3);
        assert_eq!(hash_slot("{user1000}.following"), hash_slot("user1000"));
        assert_eq!(hash_slot("foo{bar}{zap}"), hash_slot("bar"));
        assert_eq!(hash_slot("foo{{bar}}zap"), hash_slot("{bar"));
        assert_ne!(hash_slot("foo{}{bar}"), hash_slot("bar"));
        assert_ne!(hash_slot("foo{bar"), hash_slot("bar"));
    }

    #[test]
    fn a_fence_is_in_the_slot_of_its_resource() {
        for prefix in ["", "app:", "{app}:"] {
            for name in ["orders:42", "{orders}:42", "a{b}c{d}", "ü:1"] {
                let (key, fence) = (format!("{prefix}{name}"), fence_of(prefix, name));
                assert_eq!(hash_slot(&key), hash_slot(&fence), "{key} and {fence}");
                assert!(fence.starts_with(&format!("{prefix}redlock:fence:")));
            }
        }
    }

    #[test]
    fn a_prefix_counts_as_a_part_of_the_key() {
        let resources = Resources::new(["a", "b"]).expect("names");
        assert!(same_slot("", &resources).is_err());
        assert!(same_slot("{tag}:", &resources).is_ok());
    }
}
