//! A backend that panics is a node that fails.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::{BackendError, BackendErrorKind};

/// The answer, or an error if the backend panics.
pub(crate) async fn caught<T>(
    asked: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    let panicked = |_| {
        let cause = "the backend panicked";
        Err(BackendError::new(BackendErrorKind::Server, cause))
    };
    AssertUnwindSafe(asked)
        .catch_unwind()
        .await
        .unwrap_or_else(panicked)
}
