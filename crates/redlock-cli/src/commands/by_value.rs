//! What is locked, and with which value: for who has no handle.

use clap::Args;
use redlock::{LockValue, Resources};

use crate::exit::Failure;

/// The lock that `redlock acquire` took.
#[derive(Args, Debug)]
pub(crate) struct ByValue {
    /// What `redlock acquire` has printed
    #[arg(long, env = "REDLOCK_VALUE", hide_env_values = true)]
    value: String,

    /// What is locked: all that was locked together
    #[arg(value_name = "RESOURCE", required = true)]
    resources: Vec<String>,
}

impl ByValue {
    pub(crate) fn parse(self) -> Result<(Resources, LockValue), Failure> {
        Ok((Resources::new(self.resources)?, self.value.parse()?))
    }
}
