//! Faults of calls to the simulated AWS.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::call::{Api, Call};

/// A fault of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// AWS throttles the call.
    Throttle,
    /// AWS returns a server error.
    Error,
    /// AWS understands the call and refuses it.
    Refuse,
    /// AWS denies the call for lack of a permission.
    Deny,
    /// A proxy on the way refuses the call with a page of its own.
    Page,
    /// The connection is reset.
    Reset,
    /// No response ever arrives.
    Hang,
    /// The process dies while it waits for the response.
    Kill,
}

/// A call's fault and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The fault occurs before AWS executes the call.
    Before(Fault),
    /// AWS executes the call, and the response is lost.
    After(Fault),
    /// AWS executes the call, and half of the response body arrives.
    Truncated,
    /// Another run writes the same item of the table just before.
    Overtaken,
}

/// A plan of faults for the calls.
#[derive(Debug, Clone, Default)]
pub enum FaultPlan {
    /// No faults.
    #[default]
    Calm,
    /// Each call to one of `apis` fails with this probability. The choice depends only on the seed, the call and the
    /// number of the same calls before, so a seed is reproducible whatever the order of concurrent calls.
    Storm {
        /// The seed.
        seed: u64,
        /// The percentage of failing calls.
        percent: u64,
        /// The affected APIs; empty for all.
        apis: Vec<Api>,
    },
    /// The process dies at this call, counted from one.
    Kill {
        /// The number of the call.
        at: usize,
        /// Whether AWS executes the call first.
        after: bool,
    },
    /// The next calls for which the function returns `true`.
    Next {
        /// The number of calls that are still affected.
        times: usize,
        /// Whether a call is affected.
        which: fn(&Call) -> bool,
        /// Their trouble.
        trouble: Trouble,
    },
}

impl FaultPlan {
    /// Every call for which `which` returns `true` fails before AWS executes it.
    pub fn always(which: fn(&Call) -> bool, fault: Fault) -> Self {
        Self::Next { times: usize::MAX, which, trouble: Trouble::Before(fault) }
    }

    /// The trouble of `call`, the `number`th of all; `before` counts the same calls before it.
    pub fn trouble(&mut self, call: &Call, number: usize, before: u32) -> Option<Trouble> {
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
            Self::Next { times, which, trouble } => {
                let affected = *times > 0 && which(call);
                *times -= usize::from(affected);
                affected.then_some(*trouble)
            }
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

/// The status and error code of an API that refuses a call or fails.
pub fn refusal(call: &Call, fault: Fault) -> (u16, String) {
    if fault == Fault::Page {
        return (400, "<html><h1>Bad Request</h1></html>".to_owned());
    }
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
