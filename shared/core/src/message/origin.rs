//! The deployment that sends alerts: several stacks may write to one mailbox.

use crate::check::Region;
use crate::ids::AccountId;

/// The deployment that sends alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The account; `None` if the runtime does not provide it.
    pub account: Option<AccountId>,
    pub region: Region,
    /// The stack's name, if it is configured.
    pub stack: Option<String>,
    /// The address of the runbook, before `#CHECK`.
    pub runbook_url: Option<String>,
}

impl Origin {
    /// The link to a check's section of the runbook.
    pub fn runbook(&self, check: &str) -> Option<String> {
        self.runbook_url.as_ref().map(|url| format!("{url}#{check}"))
    }

    /// `account 111122223333, eu-central-1, stack privatelink-guard`, as far as known.
    pub fn describe(&self) -> String {
        let account = self.account.as_ref().map(|account| format!("account {account}"));
        let stack = self.stack.as_ref().map(|stack| format!("stack {stack}"));
        let parts = [account, Some(self.region.name().to_owned()), stack];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
