//! Which nodes? From `--node`, `--config`, `REDLOCK_NODES`, or a file: the first of them that is there. And how are
//! they used?

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use humantime::parse_duration as duration;
use serde::Deserialize;

use crate::{
    cli::Global,
    exit::{Code, Failure},
    node::{self, Credentials, Node},
};

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    nodes: Vec<Entry>,
    username: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    fencing: Option<bool>,
    restart_guard: Option<String>,
}

/// A node: its URL, or a table that has more to say.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Url(String),
    Table(Table),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: String,
    username: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

/// What is configured.
pub(crate) struct Config {
    /// Of which none is asked for anything yet.
    pub(crate) nodes: Vec<Node>,
    /// Whether locks have fencing tokens.
    pub(crate) fencing: bool,
}

/// What the environment says, which a file may add to.
#[derive(Clone, Default)]
struct Environment {
    credentials: Credentials,
    fencing: Option<bool>,
    restart_guard: Option<Duration>,
}

impl Environment {
    fn read(global: &Global) -> Result<Self, Failure> {
        let guard = || {
            let variable = variable("REDLOCK_RESTART_GUARD")?;
            variable.map_or(Ok(None), |text| {
                let time = duration(&text).map(Some);
                time.map_err(|_| config("REDLOCK_RESTART_GUARD: no time, such as 1m"))
            })
        };
        let fencing = match variable("REDLOCK_FENCING")?.as_deref() {
            None => None,
            Some("1" | "true") => Some(true),
            Some("0" | "false") => Some(false),
            Some(_) => return Err(config("REDLOCK_FENCING: neither 1 nor 0")),
        };
        Ok(Self {
            credentials: credentials()?,
            fencing,
            restart_guard: match global.restart_guard {
                None => guard()?,
                given => given,
            },
        })
    }

    /// These nodes, each with its own login or else that of the environment.
    fn open<'a>(
        &self,
        origin: impl std::fmt::Display,
        urls: impl IntoIterator<Item = &'a String>,
    ) -> Result<Config, Failure> {
        let urls = urls.into_iter();
        let nodes: Vec<_> = urls
            .map(|url| (url.clone(), self.credentials.clone()))
            .collect();
        self.open_each(origin, &nodes)
    }

    /// Names the nodes by where they stand, as a URL may contain a password.
    fn open_each(
        &self,
        origin: impl std::fmt::Display,
        nodes: &[(String, Credentials)],
    ) -> Result<Config, Failure> {
        let open = |(index, (url, credentials)): (usize, &(String, Credentials))| {
            node::open(url, credentials, self.restart_guard)
                .map_err(|reason| config(format_args!("{origin}: node {}: {reason}", index + 1)))
        };
        Ok(Config {
            nodes: nodes
                .iter()
                .enumerate()
                .map(open)
                .collect::<Result<_, _>>()?,
            fencing: self.fencing.unwrap_or(false),
        })
    }
}

/// What is configured for this command line.
pub(crate) fn read(global: &Global) -> Result<Config, Failure> {
    let environment = Environment::read(global)?;
    if !global.nodes.is_empty() {
        if global.nodes.iter().any(|url| node::has_password(url)) {
            return Err(config(
                "--node: a password would be seen by everybody in the list of processes; \
                 put it into REDLOCK_PASSWORD, REDLOCK_NODES or a file",
            ));
        }
        return environment.open("--node", &global.nodes);
    }
    if let Some(path) = &global.config {
        return from_file(path, environment);
    }
    if let Some(urls) = variable("REDLOCK_NODES")? {
        return environment.open("REDLOCK_NODES", &split(&urls));
    }
    if let Some(path) = path("REDLOCK_CONFIG") {
        return from_file(&path, environment);
    }
    match default_file().filter(|path| path.exists()) {
        Some(path) => from_file(&path, environment),
        None => Err(Failure::new(
            Code::NoNodes,
            "no nodes were given: use --node, REDLOCK_NODES or a configuration file",
        )),
    }
}

fn from_file(path: &Path, mut environment: Environment) -> Result<Config, Failure> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| config(format_args!("{shown}: {error}")))?;
    let file: Settings = toml::from_str(&text).map_err(|error| {
        let end = error.span().map_or(0, |span| span.start);
        let line = text
            .get(..end)
            .map_or(0, |before| before.matches('\n').count())
            + 1;
        let reason = without_values(error.message());
        config(format_args!("{shown}: line {line}: {reason}"))
    })?;
    let credentials = |username, password, password_file: Option<PathBuf>| {
        let password = match password_file {
            Some(name) => Some(read_password(&path.with_file_name(name))?),
            None => password,
        };
        Ok::<_, Failure>(Credentials { username, password })
    };
    let common = credentials(file.username, file.password, file.password_file)?;
    let common = environment.credentials.clone().or(&common);
    let nodes = file.nodes.into_iter().map(|entry| match entry {
        Entry::Url(url) => Ok((url, common.clone())),
        Entry::Table(table) => {
            let own = credentials(table.username, table.password, table.password_file)?;
            Ok((table.url, own.or(&common)))
        }
    });
    let nodes = nodes.collect::<Result<Vec<_>, Failure>>()?;
    environment.fencing = environment.fencing.or(file.fencing);
    if let (None, Some(text)) = (environment.restart_guard, file.restart_guard) {
        let guard = duration(&text);
        let wrong = |_| config(format_args!("{shown}: restart_guard: no time, such as 1m"));
        environment.restart_guard = Some(guard.map_err(wrong)?);
    }
    environment.open_each(shown, &nodes)
}

fn credentials() -> Result<Credentials, Failure> {
    let password = match variable("REDLOCK_PASSWORD")? {
        Some(password) => Some(password),
        None => path("REDLOCK_PASSWORD_FILE")
            .map(|path| read_password(&path))
            .transpose()?,
    };
    Ok(Credentials {
        username: variable("REDLOCK_USERNAME")?,
        password,
    })
}

/// Without the newline that editors add.
fn read_password(path: &Path) -> Result<String, Failure> {
    let read = fs::read_to_string(path);
    let password = read.map_err(|error| config(format_args!("{}: {error}", path.display())))?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

/// One that is empty counts as not set.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    let value = env::var_os(name).map(OsString::into_string).transpose();
    let value = value.map_err(|_| config(format_args!("{name}: what it is set to is no UTF-8")))?;
    Ok(value.filter(|value| !value.is_empty()))
}

/// As a path it may be any bytes.
fn path(name: &str) -> Option<PathBuf> {
    let path = env::var_os(name).filter(|value| !value.is_empty());
    path.map(PathBuf::from)
}

fn default_file() -> Option<PathBuf> {
    let directory = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")))?;
    Some(directory.join("redlock").join("config.toml"))
}

/// At blanks, and at commas behind which a new URL begins: those of sentinels and clusters have commas.
fn split(urls: &str) -> Vec<String> {
    let mut split: Vec<String> = Vec::new();
    for word in urls.split_whitespace() {
        let mut url = String::new();
        for part in word.split(',') {
            let begins = part.contains("://") || part.starts_with("unix:");
            if begins && !url.is_empty() {
                split.push(std::mem::take(&mut url));
            } else if !url.is_empty() {
                url.push(',');
            }
            url.push_str(part);
        }
        split.push(url);
    }
    let urls = split.iter().map(|url| url.trim_end_matches(','));
    let urls = urls.filter(|url| !url.is_empty());
    urls.map(str::to_owned).collect()
}

/// A message without what it quotes of the file, which may be a password; also where a name is wanted, unless it looks
/// like one of ours.
fn without_values(message: &str) -> String {
    let quote = |character| ['"', '`'].contains(&character);
    let is_name = |text: &str| text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
    let quoted = if let Some(rest) = message.strip_prefix("unknown field `") {
        let start = message.len() - rest.len();
        let end = rest.rfind("`, expected").map(|end| start + end);
        end.filter(|end| !is_name(&message[start..*end]))
            .map(|end| (start - 1, end))
    } else {
        let is_about_a_value = message.starts_with("invalid");
        let ends = message.find(quote).zip(message.rfind(quote));
        ends.filter(|(first, last)| first < last && is_about_a_value)
    };
    match quoted {
        Some((first, last)) => format!("{}…{}", &message[..first], &message[last + 1..]),
        None => message.to_owned(),
    }
}

fn config(message: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Config, message)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parted_at_blanks_and_at_commas_between_them() {
        let urls =
            "redis://a,redis://b:1\n unix:/run/a,sentinel://c:1,d:2/m,  redis-cluster://e,f:1,";
        let expected = [
            "redis://a",
            "redis://b:1",
            "unix:/run/a",
            "sentinel://c:1,d:2/m",
            "redis-cluster://e,f:1",
        ];
        assert_eq!(split(urls), expected);
        assert_eq!(split("redis://a,,redis://b,"), ["redis://a", "redis://b"]);
        assert!(split(" , ").is_empty());
    }

    #[test]
    fn a_message_does_not_quote_the_file() {
        let message = "invalid type: string \"se\"cret\", expected a sequence";
        assert_eq!(
            without_values(message),
            "invalid type: string …, expected a sequence"
        );
        let message = "invalid type: integer `8675309`, expected a string";
        assert_eq!(
            without_values(message),
            "invalid type: integer …, expected a string"
        );
        assert_eq!(without_values("unclosed \""), "unclosed \"");
        let known = "unknown field `a`, expected one of `nodes`, `url`";
        assert_eq!(without_values(known), known);
        let table = "unknown field `geheim8675309`, expected one of `nodes`, `url`";
        assert_eq!(
            without_values(table),
            "unknown field …, expected one of `nodes`, `url`"
        );
    }
}
