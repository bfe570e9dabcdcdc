//! What a person at a terminal sees while a lock is waited for.

use std::{
    convert::Infallible,
    future::pending,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use humantime::format_duration;
use redlock::{Redlock, Resources, Verdict};
use tokio::time::{Instant, interval, sleep, timeout};

use crate::{exit::quoted, inspection::held_by};

/// Nothing is shown of shorter waits.
const SHORT: Duration = Duration::from_millis(300);

/// The line does not wait longer for who holds it: longer than for a node that is silent, less than a second.
const ASKING: Duration = Duration::from_millis(700);

/// One line that is drawn again in its place; nothing where there is no terminal.
pub(crate) struct WaitingLine {
    shown: bool,
}

/// Takes the line away, however the wait ends.
struct Drawn;

impl WaitingLine {
    /// Not among other lines, as those of `-v`.
    pub(crate) fn new(verbose: bool) -> Self {
        let shown = !verbose && io::stderr().is_terminal();
        Self { shown }
    }

    /// Shows the line until the future is dropped.
    pub(crate) async fn show(
        self,
        redlock: &Redlock,
        resources: &Resources,
        limit: Option<Duration>,
    ) -> Infallible {
        if !self.shown {
            return pending().await;
        }
        let start = Instant::now();
        sleep(SHORT).await;
        let _drawn = Drawn;
        let mut second = interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            let holder = timeout(ASKING, holder(redlock, resources)).await;
            let holder = holder.unwrap_or_default();
            let line = line(&quoted(resources), start.elapsed(), limit);
            // Without wrapping at the margin, so that it stays one line.
            draw(&format!("\r\x1b[K\x1b[?7l{line}{holder}\x1b[?7h"));
        }
    }
}

/// Who holds the first of them that is held, as the end of the line; nothing if nobody is known to.
async fn holder(redlock: &Redlock, resources: &Resources) -> String {
    for name in resources.iter() {
        if let Ok(inspection) = redlock.inspect(name).await
            && let Verdict::HeldBy(holder) = inspection.verdict()
        {
            let held = held_by(holder);
            return match resources.len() {
                1 => format!("; {held}"),
                _ => format!("; {name:?} is {held}"),
            };
        }
    }
    String::new()
}

impl Drop for Drawn {
    fn drop(&mut self) {
        draw("\r\x1b[K");
    }
}

fn draw(text: &str) {
    let mut terminal = io::stderr();
    let _ = terminal.write_all(text.as_bytes());
    let _ = terminal.flush();
}

fn line(names: &str, waited: Duration, limit: Option<Duration>) -> String {
    let seconds = |time: Duration| format_duration(Duration::from_secs(time.as_secs()));
    let waited_for = seconds(waited);
    match limit {
        Some(limit) => {
            let left = seconds(limit.saturating_sub(waited));
            format!("waiting for {names} for {waited_for}, giving up in {left}")
        }
        None => format!("waiting for {names} for {waited_for}, without a limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_for_since_when_and_until_when() {
        let second = Duration::from_secs(1);
        assert_eq!(
            line("\"a\"", 65 * second + second / 2, Some(600 * second)),
            "waiting for \"a\" for 1m 5s, giving up in 8m 54s"
        );
        assert_eq!(
            line("\"a\"", second, None),
            "waiting for \"a\" for 1s, without a limit"
        );
    }
}
