//! What can go wrong with a call.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::aws::{Api, Call};

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// AWS refuses, because there were too many calls.
    Throttle,
    /// AWS fails.
    Error,
    /// AWS understands the call and refuses it.
    Refuse,
    /// The permission is missing.
    Deny,
    /// The connection is reset.
    Reset,
    /// No answer ever comes.
    Hang,
    /// The process dies while it waits for the answer.
    Kill,
}

/// What goes wrong with a call, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Before AWS does anything.
    Before(Fault),
    /// AWS has done it, and the answer is lost.
    After(Fault),
    /// AWS has done it, and half of the answer's text arrives.
    Truncated,
}

/// Decides what goes wrong with which call.
#[derive(Debug, Clone, Default)]
pub enum FaultPlan {
    /// Nothing.
    #[default]
    Calm,
    /// One call of `of` APIs goes wrong at this percentage. Which one depends only on the seed, on what is called, and on
    /// how often it was called before, so a seed repeats itself whatever the order of calls at the same time.
    Storm {
        /// The seed.
        seed: u64,
        /// Of a hundred calls, how many go wrong.
        percent: u64,
        /// The APIs that it hits; empty for all.
        apis: Vec<Api>,
    },
    /// The process dies at this call, counted from one.
    Kill {
        /// The number of the call.
        at: usize,
        /// Whether AWS has done it by then.
        after: bool,
    },
    /// Every call whose action passes fails in this way.
    Always(fn(&Call) -> Option<Trouble>),
}

impl FaultPlan {
    /// What goes wrong with `call`, the `number`th of all; `before` counts the earlier ones that were the same.
    pub fn trouble(&self, call: &Call, number: usize, before: u32) -> Option<Trouble> {
        match self {
            Self::Calm => None,
            Self::Storm { seed, percent, apis } => {
                if !apis.is_empty() && !apis.contains(&call.api) {
                    return None;
                }
                let mut hasher = DefaultHasher::new();
                (seed, &call.action, &call.about, before).hash(&mut hasher);
                let dice = hasher.finish();
                (dice % 100 < *percent).then(|| TROUBLES[usize::try_from((dice / 100) % 8).unwrap_or_default()])
            }
            Self::Kill { at, after } => (number == *at).then_some(match after {
                true => Trouble::After(Fault::Kill),
                false => Trouble::Before(Fault::Kill),
            }),
            Self::Always(fails) => fails(call),
        }
    }
}

const TROUBLES: [Trouble; 8] = [
    Trouble::Before(Fault::Throttle),
    Trouble::Before(Fault::Throttle),
    Trouble::Before(Fault::Error),
    Trouble::Before(Fault::Reset),
    Trouble::Before(Fault::Hang),
    Trouble::After(Fault::Reset),
    Trouble::After(Fault::Hang),
    Trouble::Truncated,
];

/// How the API refuses a call, or fails: the status, and the code.
pub fn refusal(call: &Call, fault: Fault) -> (u16, String) {
    let (status, code) = match (fault, call.api) {
        (Fault::Throttle, Api::Ec2) => (503, "RequestLimitExceeded"),
        (Fault::Throttle, Api::DynamoDb) => (400, "ThrottlingException"),
        (Fault::Throttle, Api::Elb | Api::Sns) => (400, "Throttling"),
        (Fault::Refuse, _) => (400, "InvalidParameter"),
        (Fault::Deny, Api::Ec2) => (403, "UnauthorizedOperation"),
        (Fault::Deny, _) => (400, "AccessDeniedException"),
        _ => (500, "InternalFailure"),
    };
    (status, call.error(code, "try later"))
}
