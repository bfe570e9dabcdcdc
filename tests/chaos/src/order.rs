//! Do fencing tokens rise?

use std::{collections::HashMap, fmt};

use redlock::FencingToken;

use crate::record::Claim;

/// A lock was asked for after another had been granted, and its token is not the greater one.
#[derive(Clone, Debug)]
pub struct Disorder {
    pub(crate) resource: String,
    pub(crate) first: Claim,
    pub(crate) second: Claim,
}

impl fmt::Display for Disorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resource,
            first,
            second,
        } = self;
        let token = |claim: &Claim| claim.token.map_or(0, FencingToken::get);
        write!(
            f,
            "the token of {resource:?} did not rise: {} of {}, then {} of {}, asked for {:?} after the first was granted",
            token(first),
            first.hold.who,
            token(second),
            second.hold.who,
            second.asked - first.hold.granted,
        )
    }
}

/// Every claim with a token that does not exceed the greatest of those granted before it was asked for.
pub(crate) fn disorders<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> Vec<Disorder> {
    let mut of_resources: HashMap<&str, Vec<&Claim>> = HashMap::new();
    for claim in claims.into_iter().filter(|claim| claim.token.is_some()) {
        for resource in claim.hold.resources.iter() {
            of_resources.entry(resource).or_default().push(claim);
        }
    }
    let all = of_resources.into_iter();
    all.flat_map(|(resource, claims)| of_one(resource, claims))
        .collect()
}

fn of_one(resource: &str, claims: Vec<&Claim>) -> Vec<Disorder> {
    let mut asked = claims.clone();
    asked.sort_by_key(|claim| claim.asked);
    let mut granted = claims;
    granted.sort_by_key(|claim| claim.hold.granted);
    let mut granted = granted.into_iter().peekable();
    let mut greatest: Option<&Claim> = None;
    let mut found = Vec::new();
    for second in asked {
        while let Some(before) = granted.next_if(|claim| claim.hold.granted < second.asked) {
            if greatest.is_none_or(|greatest| greatest.token < before.token) {
                greatest = Some(before);
            }
        }
        if let Some(first) = greatest.filter(|first| first.token >= second.token) {
            let (first, second) = (first.clone(), second.clone());
            found.push(Disorder {
                resource: resource.to_owned(),
                first,
                second,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redlock::{Instant, IntoResources, LockValue};
    use redlock_test::{Ending, Hold};

    use super::*;

    /// Claims by when they were asked for, when granted, and with which token.
    fn of<const N: usize>(claims: [(u64, u64, u64); N]) -> Vec<(u64, u64)> {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let claims = claims.map(|(asked, granted, token)| Claim {
            hold: Hold {
                who: "somebody".to_owned(),
                resources: "a".into_resources().unwrap(),
                value: LockValue::random(),
                granted: at(granted),
                valid_until: at(granted),
                ending: Ending::Deadline,
            },
            asked: at(asked),
            token: Some(FencingToken::new(token)),
        });
        let tokens = |it: &Disorder| [&it.first, &it.second].map(|it| it.token.unwrap().get());
        disorders(&claims)
            .iter()
            .map(tokens)
            .map(|[one, two]| (one, two))
            .collect()
    }

    #[test]
    fn a_token_that_falls_or_is_given_twice_is_found() {
        assert_eq!(of([(0, 1, 7), (2, 3, 8)]), []);
        assert_eq!(of([(0, 1, 7), (2, 3, 7)]), [(7, 7)]);
        assert_eq!(of([(4, 5, 6), (2, 3, 8), (0, 1, 7)]), [(8, 6)]);
        assert_eq!(of([(0, 1, 9), (2, 3, 10), (4, 5, 9)]), [(10, 9)]);
    }

    #[test]
    fn those_under_way_at_once_have_no_order() {
        assert_eq!(of([(0, 3, 8), (2, 4, 7)]), []);
    }
}
