//! The node in memory keeps the contract, and nodes that break it are found out by the clause that says so.

mod common;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use common::{Clause, assert_each_is_rejected, rejects};
use redlock_core::{
    BackendError, BackendErrorKind, Holder, Instant, LockBackend, LockValue, MemoryBackend,
    Resources, Vote,
};
use redlock_test::{Fault, Faulty, Operation, conformance::Subject};
use tokio::{task::yield_now, time::sleep};

mod memory {
    use super::*;

    redlock_test::conformance!(Subject::new(MemoryBackend::new()));
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    GrantsNothing,
    GrantsOnlyOne,
    GrantsWhatItsOwnValueHolds,
    TakesSomeOfSeveral,
    TakesInTwoSteps,
    RefusedAcquireProlongs,
    TtlInWholeSeconds,
    TtlTakenForSeconds,
    NeverExpires,
    TtlIn31Bits,
    ReleaseIgnoresTheValue,
    ReleaseNeedsAll,
    ReleaseSaysYes,
    ReleaseDoesNothing,
    ReleaseOfTheExpired,
    ExtendAddsNothing,
    ExtendIgnoresTheValue,
    ExtendsSomeOfSeveral,
    ExtendRevives,
    ExtendOfTheExpired,
    ExtendShortens,
    NamesIgnoreCase,
    NamesAreTrimmed,
    ValuesArePrefixes,
    OrderMatters,
    OverlapsBySet,
    NameChanges,
    OneThingAtATime,
    DropWedges,
    DroppedAcquireLandsLate,
    PeersShareNothing,
    InspectSeesNothing,
    InspectTellsAnothersValue,
    InspectTellsTheTtlInSeconds,
    InspectTellsNoEnd,
    InspectTellsTheExpired,
    InspectTakes,
    InspectProlongs,
    InspectShortens,
    InspectFrees,
    InspectFailsOnTheHeld,
}

type Leases = HashMap<String, (LockValue, Instant)>;

/// A node with one thing wrong, or nothing.
#[derive(Clone, Debug)]
struct Broken {
    wrong: Option<Wrong>,
    leases: Arc<Mutex<Leases>>,
    busy: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Broken {
    fn new(wrong: Option<Wrong>) -> Self {
        Self {
            wrong,
            leases: Arc::default(),
            busy: Arc::default(),
            asked: Arc::default(),
        }
    }

    fn subject(wrong: Option<Wrong>) -> Subject {
        let node = Self::new(wrong);
        let peer = match wrong {
            Some(Wrong::PeersShareNothing) => Self::new(wrong),
            _ => node.clone(),
        };
        Subject::new(node).peer(peer)
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    fn key(&self, resources: &Resources, name: &str) -> String {
        match self.wrong {
            Some(Wrong::NamesIgnoreCase) => name.to_lowercase(),
            Some(Wrong::NamesAreTrimmed) => name.trim_end().to_owned(),
            Some(Wrong::OrderMatters | Wrong::OverlapsBySet) => format!("{name} of {resources}"),
            _ => name.to_owned(),
        }
    }

    fn until(&self, ttl: Duration) -> Instant {
        let ttl = match self.wrong {
            Some(Wrong::TtlInWholeSeconds) => Duration::from_secs(ttl.as_secs()),
            Some(Wrong::TtlTakenForSeconds) => ttl * 1000,
            Some(Wrong::NeverExpires) => Duration::from_secs(1 << 30),
            // What a month leaves of a signed integer of 32 bits is nothing.
            Some(Wrong::TtlIn31Bits) if ttl.as_millis() >= 1 << 31 => Duration::ZERO,
            _ => ttl,
        };
        Instant::now() + ttl
    }

    fn live(leases: &Leases, key: &str) -> bool {
        leases
            .get(key)
            .is_some_and(|(_, until)| Instant::now() < *until)
    }

    fn carries(&self, leases: &Leases, key: &str, value: &LockValue) -> bool {
        let same = leases.get(key).is_some_and(|(held, _)| match self.wrong {
            Some(Wrong::ValuesArePrefixes) => held.as_str().starts_with(value.as_str()),
            _ => held == value,
        });
        same && Self::live(leases, key)
    }

    fn acquire_now(&self, resources: &Resources, value: &LockValue, ttl: Duration) -> Vote {
        let mut leases = self.leases.lock().unwrap();
        let mut granted = !self.is(Wrong::GrantsNothing);
        if self.is(Wrong::GrantsOnlyOne) && resources.len() > 1 {
            granted = false;
        }
        for name in resources.iter() {
            let key = self.key(resources, name);
            let ours =
                self.is(Wrong::GrantsWhatItsOwnValueHolds) && self.carries(&leases, &key, value);
            let free = ours || !Self::live(&leases, &key);
            if free && self.is(Wrong::TakesSomeOfSeveral) {
                leases.insert(key, (value.clone(), self.until(ttl)));
            } else if !free && self.is(Wrong::RefusedAcquireProlongs) {
                leases.get_mut(&key).unwrap().1 = self.until(ttl);
            }
            granted &= free;
        }
        if granted {
            let lease = (value.clone(), self.until(ttl));
            leases.extend(
                resources
                    .iter()
                    .map(|name| (self.key(resources, name), lease.clone())),
            );
        }
        Vote::granted_if(granted)
    }
}

/// Without a look at when it ends.
fn is_of(leases: &Leases, key: &str, value: &LockValue) -> bool {
    leases.get(key).is_some_and(|(held, _)| held == value)
}

fn holder((value, until): (LockValue, Instant)) -> Holder {
    Holder::new(&value, until.saturating_duration_since(Instant::now()))
}

#[async_trait]
impl LockBackend for Broken {
    async fn acquire(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        if self.is(Wrong::OneThingAtATime) || self.is(Wrong::DropWedges) {
            if self.busy.swap(true, SeqCst) {
                return Err(BackendError::timeout());
            }
            yield_now().await;
            yield_now().await;
            self.busy.store(false, SeqCst);
        }
        if self.is(Wrong::DroppedAcquireLandsLate) {
            let (node, resources, value) = (self.clone(), resources.clone(), value.clone());
            let landing = tokio::spawn(async move {
                sleep(Duration::from_millis(2)).await;
                node.acquire_now(&resources, &value, ttl)
            });
            return Ok(landing.await.unwrap());
        }
        if self.is(Wrong::TakesInTwoSteps) {
            let free = {
                let leases = self.leases.lock().unwrap();
                !resources.iter().any(|name| Self::live(&leases, name))
            };
            yield_now().await;
            if free {
                let mut leases = self.leases.lock().unwrap();
                let lease = (value.clone(), self.until(ttl));
                leases.extend(resources.iter().map(|name| (name.clone(), lease.clone())));
            }
            return Ok(Vote::granted_if(free));
        }
        Ok(self.acquire_now(resources, value, ttl))
    }

    async fn release(
        &self,
        resources: &Resources,
        value: &LockValue,
    ) -> Result<Vote, BackendError> {
        let mut leases = self.leases.lock().unwrap();
        let keys: Vec<_> = resources
            .iter()
            .map(|name| self.key(resources, name))
            .collect();
        let ours = |leases: &Leases, key: &String| match self.wrong {
            Some(Wrong::ReleaseIgnoresTheValue) => Self::live(leases, key),
            Some(Wrong::ReleaseOfTheExpired) => is_of(leases, key, value),
            _ => self.carries(leases, key, value),
        };
        let all = keys.iter().all(|key| ours(&leases, key));
        for key in keys {
            let skipped =
                self.is(Wrong::ReleaseDoesNothing) || self.is(Wrong::ReleaseNeedsAll) && !all;
            if ours(&leases, &key) && !skipped {
                leases.remove(&key);
            }
        }
        Ok(Vote::granted_if(all || self.is(Wrong::ReleaseSaysYes)))
    }

    async fn extend(
        &self,
        resources: &Resources,
        value: &LockValue,
        ttl: Duration,
    ) -> Result<Vote, BackendError> {
        let mut leases = self.leases.lock().unwrap();
        let keys: Vec<_> = resources
            .iter()
            .map(|name| self.key(resources, name))
            .collect();
        let ours = |leases: &Leases, key: &String| match self.wrong {
            Some(Wrong::ExtendIgnoresTheValue) => Self::live(leases, key),
            Some(Wrong::ExtendOfTheExpired) => is_of(leases, key, value),
            Some(Wrong::ExtendRevives) => {
                self.carries(leases, key, value) || !Self::live(leases, key)
            }
            _ => self.carries(leases, key, value),
        };
        let granted = keys.iter().all(|key| ours(&leases, key));
        let some = self.is(Wrong::ExtendsSomeOfSeveral);
        for key in keys {
            if (granted || some) && ours(&leases, &key) && !self.is(Wrong::ExtendAddsNothing) {
                let until = self.until(ttl);
                let lease = leases.entry(key).or_insert((value.clone(), until));
                lease.1 = if self.is(Wrong::ExtendShortens) {
                    until
                } else {
                    lease.1.max(until)
                };
            }
        }
        Ok(Vote::granted_if(granted))
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Holder>, BackendError> {
        let mut leases = self.leases.lock().unwrap();
        let live = Self::live(&leases, resource);
        let seconds = Duration::from_secs;
        match self.wrong {
            Some(Wrong::InspectTakes) if !live => {
                let until = Instant::now() + seconds(1);
                leases.insert(resource.to_owned(), (LockValue::random(), until));
                return Ok(None);
            }
            Some(Wrong::InspectProlongs) if live => {
                leases.get_mut(resource).unwrap().1 = Instant::now() + seconds(1);
            }
            Some(Wrong::InspectShortens) if live => {
                leases.get_mut(resource).unwrap().1 -= Duration::from_millis(100);
            }
            Some(Wrong::InspectFrees) => return Ok(leases.remove(resource).map(holder)),
            Some(Wrong::InspectTellsTheExpired) => {
                return Ok(leases.get(resource).cloned().map(holder));
            }
            Some(Wrong::InspectTellsAnothersValue) if live => {
                return Ok(leases.values().next().cloned().map(holder));
            }
            Some(Wrong::InspectFailsOnTheHeld) if live => {
                let cause = "it is held";
                return Err(BackendError::new(BackendErrorKind::Unsupported, cause));
            }
            _ => {}
        }
        let seen = live && !self.is(Wrong::InspectSeesNothing);
        let mut told = seen.then(|| holder(leases[resource].clone()));
        if let Some(told) = &mut told {
            told.remaining = match told.remaining {
                _ if self.is(Wrong::InspectTellsNoEnd) => None,
                Some(it) if self.is(Wrong::InspectTellsTheTtlInSeconds) => Some(it / 1000),
                remaining => remaining,
            };
        }
        Ok(told)
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        let asked = self.asked.fetch_add(1, SeqCst);
        self.is(Wrong::NameChanges)
            .then(|| format!("node {asked}").into())
    }
}

/// The clause that must find out what is wrong.
fn clause_against(wrong: Wrong) -> Clause {
    match wrong {
        Wrong::GrantsNothing | Wrong::GrantsOnlyOne => clause!(acquire_grants_what_is_free),
        Wrong::GrantsWhatItsOwnValueHolds => clause!(acquire_refuses_what_is_held_by_whomever),
        Wrong::TakesSomeOfSeveral => clause!(acquire_takes_all_or_none),
        Wrong::TakesInTwoSteps => clause!(of_many_acquires_at_once_one_is_granted),
        Wrong::RefusedAcquireProlongs => clause!(a_refused_acquire_changes_nothing),
        Wrong::TtlInWholeSeconds | Wrong::TtlTakenForSeconds | Wrong::NeverExpires => {
            clause!(a_lease_ends_by_itself_and_not_before)
        }
        Wrong::TtlIn31Bits => clause!(a_lease_can_be_as_short_or_as_long_as_one_likes),
        Wrong::ReleaseIgnoresTheValue => clause!(release_leaves_what_carries_another_value),
        Wrong::ReleaseNeedsAll => clause!(release_frees_those_of_several_that_carry_the_value),
        Wrong::ReleaseSaysYes | Wrong::ReleaseDoesNothing => {
            clause!(release_frees_what_carries_the_value)
        }
        Wrong::ReleaseOfTheExpired => clause!(release_of_what_has_expired_frees_nothing),
        Wrong::ExtendAddsNothing => clause!(extend_restarts_the_ttl),
        Wrong::ExtendIgnoresTheValue => clause!(extend_needs_the_value),
        Wrong::ExtendsSomeOfSeveral => clause!(extend_needs_all),
        Wrong::ExtendRevives | Wrong::ExtendOfTheExpired => clause!(extend_never_revives),
        Wrong::ExtendShortens => clause!(extend_never_shortens),
        Wrong::NamesIgnoreCase | Wrong::NamesAreTrimmed => clause!(names_are_just_names),
        Wrong::ValuesArePrefixes => clause!(values_are_compared_whole),
        Wrong::OrderMatters => clause!(the_order_of_the_resources_does_not_matter),
        Wrong::NameChanges => clause!(a_node_is_named_always_the_same),
        Wrong::OneThingAtATime => clause!(different_resources_do_not_disturb_each_other),
        Wrong::OverlapsBySet => clause!(sets_that_overlap_are_never_held_by_two),
        Wrong::DropWedges => clause!(a_dropped_operation_leaves_the_node_usable),
        Wrong::DroppedAcquireLandsLate => clause!(a_release_is_not_overtaken_by_a_dropped_acquire),
        Wrong::PeersShareNothing => clause!(every_handle_sees_the_same_locks),
        Wrong::InspectSeesNothing
        | Wrong::InspectTellsAnothersValue
        | Wrong::InspectTellsTheTtlInSeconds
        | Wrong::InspectTellsNoEnd
        | Wrong::InspectFailsOnTheHeld => clause!(inspect_tells_who_holds),
        Wrong::InspectTellsTheExpired => clause!(inspect_finds_nothing_that_is_free_or_has_expired),
        Wrong::InspectTakes
        | Wrong::InspectProlongs
        | Wrong::InspectShortens
        | Wrong::InspectFrees => clause!(inspect_changes_nothing),
    }
}

const ALL: [Wrong; 41] = [
    Wrong::GrantsNothing,
    Wrong::GrantsOnlyOne,
    Wrong::GrantsWhatItsOwnValueHolds,
    Wrong::TakesSomeOfSeveral,
    Wrong::TakesInTwoSteps,
    Wrong::RefusedAcquireProlongs,
    Wrong::TtlInWholeSeconds,
    Wrong::TtlTakenForSeconds,
    Wrong::NeverExpires,
    Wrong::TtlIn31Bits,
    Wrong::ReleaseIgnoresTheValue,
    Wrong::ReleaseNeedsAll,
    Wrong::ReleaseSaysYes,
    Wrong::ReleaseDoesNothing,
    Wrong::ReleaseOfTheExpired,
    Wrong::ExtendAddsNothing,
    Wrong::ExtendIgnoresTheValue,
    Wrong::ExtendsSomeOfSeveral,
    Wrong::ExtendRevives,
    Wrong::ExtendOfTheExpired,
    Wrong::ExtendShortens,
    Wrong::NamesIgnoreCase,
    Wrong::NamesAreTrimmed,
    Wrong::ValuesArePrefixes,
    Wrong::OrderMatters,
    Wrong::OverlapsBySet,
    Wrong::NameChanges,
    Wrong::OneThingAtATime,
    Wrong::DropWedges,
    Wrong::DroppedAcquireLandsLate,
    Wrong::PeersShareNothing,
    Wrong::InspectSeesNothing,
    Wrong::InspectTellsAnothersValue,
    Wrong::InspectTellsTheTtlInSeconds,
    Wrong::InspectTellsNoEnd,
    Wrong::InspectTellsTheExpired,
    Wrong::InspectTakes,
    Wrong::InspectProlongs,
    Wrong::InspectShortens,
    Wrong::InspectFrees,
    Wrong::InspectFailsOnTheHeld,
];

#[tokio::test(start_paused = true)]
async fn a_node_that_breaks_a_clause_is_rejected_by_that_clause() {
    assert_each_is_rejected(&ALL, clause_against, Broken::subject).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_node_that_says_so_need_not_inspect() {
    let clauses: [Clause; 3] = [
        clause!(inspect_tells_who_holds),
        clause!(inspect_finds_nothing_that_is_free_or_has_expired),
        clause!(inspect_changes_nothing),
    ];
    for clause in clauses {
        let subject = |fault| {
            let node = Faulty::new(MemoryBackend::new());
            node.on(Operation::Inspect, fault);
            Subject::new(node)
        };
        let (name, test) = clause;
        test(subject(Fault::Refuse)).await;
        let failing = subject(Fault::Fail(BackendErrorKind::Server));
        assert!(
            rejects(clause, failing).await,
            "a node that fails passes {name}"
        );
    }
}
