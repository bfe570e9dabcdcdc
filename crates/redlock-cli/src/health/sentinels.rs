//! What the sentinels of a group say.

use std::collections::{HashMap, HashSet};

use redlock::{quorum::quorum, redis_rs::redis::ConnectionInfo};

use super::{
    address, all,
    finding::Notes,
    server::{Line, Refusal, Seen},
};

type Address = (String, u16);

/// What one of them knows.
struct Knowledge {
    master: Option<Address>,
    /// How many sentinels there are, itself included.
    sentinels: Option<usize>,
}

/// Asks all of them at once; where most of those that answer see the master.
pub(super) async fn look(
    name: &str,
    sentinels: Vec<ConnectionInfo>,
    master: &str,
) -> (Seen, Option<Address>) {
    let listed = sentinels.len();
    let mut notes = Notes::of(Some(name.to_owned()));
    let asked: Vec<_> = sentinels
        .into_iter()
        .map(|sentinel| tokio::spawn(ask(sentinel, master.to_owned())))
        .collect();
    let mut votes = HashMap::<Address, usize>::new();
    let mut known = HashSet::new();
    let mut answered = 0;
    for answer in all(asked).await.unwrap_or_default() {
        match answer {
            Ok(knowledge) => {
                answered += 1;
                known.extend(knowledge.sentinels);
                if let Some(address) = knowledge.master {
                    *votes.entry(address).or_default() += 1;
                }
            }
            Err(failure) => notes.warning("sentinels", failure, "start it, or correct its address"),
        }
    }
    let text = format!("{answered} of {listed} sentinels answer");
    if answered < quorum(listed) {
        let advice = "the node counts only with most of them: start them";
        notes.problem("sentinels", text, advice);
    } else {
        notes.ok("sentinels", text);
    }
    if let Some(most) = known.into_iter().max().filter(|most| *most != listed) {
        let found = format!("{listed} sentinels are listed, but the group has {most}");
        notes.warning("sentinels", found, "list all of them, each once");
    }
    let differ = votes.len() > 1;
    let found = votes.into_iter().max_by_key(|(_, votes)| *votes);
    match &found {
        None => notes.problem(
            "master",
            format!("no sentinel knows a master {master:?}"),
            "correct the name behind the last slash of the URL",
        ),
        Some(((host, port), _)) if differ => notes.warning(
            "master",
            format!("the sentinels disagree; most name {host}:{port}"),
            "wait for the failover to end, and check again",
        ),
        Some(((host, port), _)) => notes.ok("master", format!("{host}:{port}")),
    }
    let seen = Seen {
        name: name.to_owned(),
        run_id: None,
        clock: None,
        notes: notes.take(),
    };
    (seen, found.map(|(address, _)| address))
}

async fn ask(sentinel: ConnectionInfo, master: String) -> Result<Knowledge, String> {
    let place = address(&sentinel);
    let line = Line::open(sentinel).await;
    let mut line = line.map_err(|error| format!("{place} gives no answer: {error}"))?;
    let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &master];
    let address = match line.ask_words::<Option<Address>>(&words).await {
        Ok(address) => address,
        Err(Refusal::Failed(error)) => return Err(format!("{place}: {error}")),
        Err(Refusal::Forbidden) => {
            return Err(format!("{place}: not allowed to ask for the master"));
        }
    };
    let words = ["SENTINEL", "MASTER", &master];
    let told = line.ask_words::<HashMap<String, String>>(&words).await;
    let others = told.ok().and_then(|told| {
        let others = told.get("num-other-sentinels")?;
        others.parse::<usize>().ok()
    });
    Ok(Knowledge {
        master: address,
        sentinels: others.map(|others| others + 1),
    })
}
