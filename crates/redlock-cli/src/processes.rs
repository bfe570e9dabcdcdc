//! Who descends from us? Linux tells in `/proc`; elsewhere nobody is known to.

use std::{collections::HashMap, fs, os::unix::ffi::OsStrExt};

use rustix::process::{Pid, getpid};

/// A process, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// `None` for the first of all, and where the parent is outside of our view.
    parent: Option<Pid>,
    pub(crate) group: Option<Pid>,
    /// Ended, and not buried yet.
    pub(crate) zombie: bool,
}

/// All that descends from us, in whatever group or session, except this one and what descends from it.
///
/// We are the parent of whom a parent has left behind. Nobody but us buries our children: so, as long as anybody
/// is there, a child of ours is found, however processes come and go meanwhile.
pub(crate) fn descendants(except: Pid) -> Vec<Process> {
    let mut children = HashMap::<_, Vec<_>>::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![getpid()];
    while let Some(parent) = parents.pop() {
        let mut next = children.remove(&Some(parent)).unwrap_or_default();
        next.retain(|process| process.pid != except);
        parents.extend(next.iter().map(|process| process.pid));
        found.extend(next);
    }
    found
}

/// All that have this entry in the environment that they were started with, as far as we may look.
pub(crate) fn with_environment(entry: &str) -> Vec<Pid> {
    let has = |pid: &Pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|it| it == entry.as_bytes())
    };
    numbers().filter(has).collect()
}

fn all() -> impl Iterator<Item = Process> {
    numbers().filter_map(|pid| {
        // Its name may be any bytes.
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse(pid, &String::from_utf8_lossy(&stat))
    })
}

fn numbers() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| number(std::str::from_utf8(entry.file_name().as_bytes()).ok()?))
}

fn parse(pid: Pid, stat: &str) -> Option<Process> {
    // The name stands in brackets, and may have brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let [state, parent, group, ..] = fields[..] else {
        return None;
    };
    // Of whom the first thread has ended others may go on.
    let threads = fields.get(17).copied().unwrap_or_default();
    Some(Process {
        pid,
        parent: number(parent),
        group: number(group),
        zombie: ["Z", "X"].contains(&state) && ["0", "1"].contains(&threads),
    })
}

/// A process or a group; none by what is not positive, as Linux says of who is just ending.
pub(crate) fn number(text: &str) -> Option<Pid> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(stat: &str) -> Process {
        parse(Pid::INIT, stat).unwrap()
    }

    #[test]
    fn a_name_with_brackets_and_blanks_is_no_field() {
        let stat = "1 (a) Z 1 1) S 7 8 9 0 -1 4 1 1 0 0 0 0 0 0 20 0 1 0 55";
        let process = parsed(stat);
        assert_eq!((process.parent, process.group), (number("7"), number("8")));
        assert!(!process.zombie);
    }

    #[test]
    fn a_zombie_is_who_has_no_thread_left() {
        let stat = |threads| format!("1 (a) Z 7 8 9 0 -1 4 1 1 0 0 0 0 0 0 20 0 {threads} 0 55");
        assert!(parsed(&stat(1)).zombie);
        assert!(!parsed(&stat(2)).zombie);
    }

    #[test]
    fn who_is_just_ending_is_in_no_group() {
        let ending = parsed("1 (a) X 7 -1 -1 0 -1 4 1 1 0 0 0 0 0 0 20 0 0 0 55");
        assert_eq!((ending.parent, ending.group), (number("7"), None));
        for text in ["-1", "-0", "0", "+", ""] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_of_all_has_no_parent() {
        assert_eq!(parsed("1 (init) S 0 1 1 0 -1").parent, None);
        assert_eq!(parse(Pid::INIT, ""), None);
    }
}
