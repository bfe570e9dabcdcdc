//! A pseudo-terminal, and commands at it.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{adopt_environment, eventually};

/// A terminal, and what was written to it so far.
pub struct Terminal {
    ours: File,
    theirs: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub fn open() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let name = std::ffi::OsStr::from_bytes(name.to_bytes());
        let theirs = File::options().read(true).write(true).open(name).unwrap();
        let ours = File::from(ours);
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reader, written) = (ours.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                written.lock().unwrap().extend(&buffer[..count]);
            }
        });
        Self {
            ours,
            theirs,
            screen,
        }
    }

    pub fn handle(&self) -> Stdio {
        self.theirs.try_clone().unwrap().into()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    pub fn shows(&self, text: &str) {
        eventually(&format!("{text:?} is shown"), || {
            self.text().contains(text).then_some(())
        });
    }

    /// For one of the first seconds of a wait; on a slow machine not each of them is shown.
    #[track_caller]
    pub fn shows_in_time(&self, text: impl Fn(u32) -> String) {
        let texts: Vec<_> = (1..15).map(text).collect();
        eventually(&format!("{:?} is shown, or later", texts[0]), || {
            let shown = self.text();
            texts.iter().any(|text| shown.contains(text)).then_some(())
        });
    }

    pub fn types(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).unwrap();
    }

    /// Starts the command as the leader of a session that this terminal controls.
    pub fn start(&self, command: &Command) -> Child {
        let mut session = Command::new("setsid");
        session
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        adopt_environment(&mut session, command);
        session
            .stdin(self.handle())
            .stdout(self.handle())
            .stderr(self.handle());
        session.spawn().unwrap()
    }
}

/// As at a terminal that shows colours.
pub fn plain(command: &mut Command) -> &mut Command {
    command.env("TERM", "xterm").env_remove("NO_COLOR")
}
