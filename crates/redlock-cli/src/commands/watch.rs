//! `redlock watch`.

use std::time::Duration;

use clap::Args;
use humantime::format_duration;
use redlock::Resources;
use rustix::process::{Signal, getpid, kill_process};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    cli::Global,
    commands::print,
    exit::{Failure, signal_code},
    inspection::{Inspected, News, inspect},
    screen::Screen,
    session,
    signals::{ENDING, Signals},
};

const HELP: &str = "\
At a terminal the table of `redlock inspect` is drawn again and again; Ctrl-C ends it. Elsewhere there is one
line for each resource, and one more whenever something but the remaining time has changed.

Example:
  redlock watch --interval 500ms deploy nightly-report";

/// Keep on telling who holds a resource
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Watch {
    /// How often the nodes are asked
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = pause)]
    interval: Duration,

    /// What to ask for, each on its own
    #[arg(value_name = "RESOURCE", required = true)]
    resources: Vec<String>,
}

/// Where it is shown.
enum View {
    Screen(Screen),
    /// With what was last said of each resource.
    Lines(Vec<News>),
}

impl Watch {
    pub(crate) fn execute(self, global: &Global) -> Result<u8, Failure> {
        let resources = Resources::new(self.resources)?;
        session::run(
            global,
            |builder| builder,
            async |redlock| {
                let mut signals = Signals::listen(ENDING)?;
                let mut view = View::open()?;
                if let View::Screen(_) = view {
                    signals.add(&[Signal::TSTP])?;
                }
                let mut turn = interval(self.interval);
                turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    let next = async {
                        turn.tick().await;
                        inspect(&redlock, &resources).await
                    };
                    tokio::select! {
                        biased;
                        signal = signals.next() => match signal {
                            Signal::TSTP => {
                                drop(view);
                                let _ = kill_process(getpid(), Signal::STOP);
                                // Here we are continued.
                                view = View::open()?;
                                turn.reset_immediately();
                            }
                            ending => return Ok(signal_code(ending.as_raw())),
                        },
                        inspected = next => view.show(&inspected?, self.interval)?,
                    }
                }
            },
        )
    }
}

impl View {
    fn open() -> Result<Self, Failure> {
        let screen = Screen::open()?;
        Ok(screen.map_or(Self::Lines(Vec::new()), Self::Screen))
    }

    fn show(&mut self, inspected: &[Inspected], interval: Duration) -> Result<(), Failure> {
        match self {
            Self::Screen(screen) => {
                let mut text = format!("every {}, Ctrl-C ends\n", format_duration(interval));
                for resource in inspected {
                    text += "\n";
                    text += &resource.table();
                }
                screen.draw(&text)
            }
            Self::Lines(said) => {
                let news: Vec<_> = inspected.iter().map(Inspected::news).collect();
                let changed = |index: usize| said.get(index) != news.get(index);
                let lines = inspected.iter().enumerate();
                let lines: String = lines
                    .filter(|(index, _)| changed(*index))
                    .map(|(_, resource)| resource.line())
                    .collect();
                *said = news;
                print(lines.as_bytes())
            }
        }
    }
}

/// Not so short that the nodes do nothing but answer it.
fn pause(text: &str) -> Result<Duration, String> {
    let pause = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if pause < Duration::from_millis(100) {
        return Err("at least 100ms".to_owned());
    }
    Ok(pause)
}
