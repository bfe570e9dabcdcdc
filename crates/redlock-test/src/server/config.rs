//! A server's arguments and the configuration file that says the same.

/// The password that these arguments set.
pub(super) fn password<A: AsRef<str>>(args: &[A]) -> Option<&str> {
    let name = args
        .iter()
        .position(|arg| arg.as_ref() == "--requirepass")?;
    args.get(name + 1).map(AsRef::as_ref)
}

/// The lines of a configuration file that say what these arguments say.
pub(super) fn lines(args: &[String]) -> String {
    args.iter()
        .map(|arg| match arg.strip_prefix("--") {
            Some(name) => format!("\n{name}"),
            None => format!(" {arg:?}"),
        })
        .collect()
}
