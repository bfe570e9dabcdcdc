//! What is locked.

use std::{fmt, ops::Deref, sync::Arc};

use crate::InvalidRequest;

/// One or several resource names: not empty, distinct, sorted, so that every client names them alike.
///
/// Cheap to clone. A name is any non-empty text; on Redis it is the key, and those are refused that belong to this
/// library: `…:redlock:line`, `…:redlock:awaited`, `redlock:guard…`, `redlock:fence:…`.
///
/// ```
/// use redlock_core::Resources;
///
/// let both = Resources::new(["stock:7", "orders:42"])?;
/// assert_eq!(&both[..], ["orders:42", "stock:7"]);
/// assert!(Resources::new(["a", "a"]).is_err());
/// # Ok::<(), redlock_core::InvalidRequest>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Resources(Arc<[String]>);

impl Resources {
    /// Checks and sorts the names.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`] when there is no name, or one is empty or stands twice.
    pub fn new<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidRequest> {
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        names.sort_unstable();
        if names.is_empty() {
            return Err(InvalidRequest::NoResources);
        }
        if names[0].is_empty() {
            return Err(InvalidRequest::EmptyResource);
        }
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(InvalidRequest::DuplicateResource(pair[0].clone()));
        }
        Ok(Self(names.into()))
    }
}

impl Deref for Resources {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// What can name resources: one name (`"a"`), several (`["a", "b"]`, a `Vec`, a slice), or [`Resources`].
pub trait IntoResources {
    /// The checked names.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`] as [`Resources::new`].
    fn into_resources(self) -> Result<Resources, InvalidRequest>;
}

impl IntoResources for Resources {
    fn into_resources(self) -> Result<Resources, InvalidRequest> {
        Ok(self)
    }
}

impl IntoResources for &Resources {
    fn into_resources(self) -> Result<Resources, InvalidRequest> {
        Ok(self.clone())
    }
}

impl IntoResources for String {
    fn into_resources(self) -> Result<Resources, InvalidRequest> {
        Resources::new([self])
    }
}

macro_rules! one_name {
    ($($name:ty),*) => {$(
        impl IntoResources for $name {
            fn into_resources(self) -> Result<Resources, InvalidRequest> {
                Resources::new([self.to_owned()])
            }
        }
    )*};
}

one_name!(&str, &String);

impl<N: Into<String>, const COUNT: usize> IntoResources for [N; COUNT] {
    fn into_resources(self) -> Result<Resources, InvalidRequest> {
        Resources::new(self)
    }
}

impl<N: AsRef<str>, const COUNT: usize> IntoResources for &[N; COUNT] {
    fn into_resources(self) -> Result<Resources, InvalidRequest> {
        self.as_slice().into_resources()
    }
}

impl<N: Into<String>> IntoResources for Vec<N> {
    fn into_resources(self) -> Result<Resources, InvalidRequest> {
        Resources::new(self)
    }
}

impl<N: AsRef<str>> IntoResources for &[N] {
    fn into_resources(self) -> Result<Resources, InvalidRequest> {
        Resources::new(self.iter().map(AsRef::as_ref))
    }
}

impl<N: AsRef<str>> IntoResources for &Vec<N> {
    fn into_resources(self) -> Result<Resources, InvalidRequest> {
        self.as_slice().into_resources()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused_by_name() {
        let none: [&str; 0] = [];
        assert_eq!(Resources::new(none), Err(InvalidRequest::NoResources));
        assert_eq!(
            ["a", ""].into_resources(),
            Err(InvalidRequest::EmptyResource)
        );
        assert_eq!("".into_resources(), Err(InvalidRequest::EmptyResource));
        assert_eq!(
            vec!["b", "a", "b"].into_resources(),
            Err(InvalidRequest::DuplicateResource("b".into()))
        );
    }

    #[test]
    fn every_way_to_name_two_resources_means_the_same() {
        let expected = Resources::new(["a", "b"]).unwrap();
        assert_eq!(["b", "a"].into_resources().unwrap(), expected);
        assert_eq!(
            vec!["b".to_owned(), "a".to_owned()]
                .into_resources()
                .unwrap(),
            expected
        );
        assert_eq!(["a", "b"][..].into_resources().unwrap(), expected);
        assert_eq!((&["a", "b"]).into_resources().unwrap(), expected);
        assert_eq!((&vec!["a", "b"]).into_resources().unwrap(), expected);
        assert_eq!((&expected).into_resources().unwrap(), expected);
    }
}
