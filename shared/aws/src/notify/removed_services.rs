//! Endpoint services that were removed from the configuration: their alerts close with a notice.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use guard_core::alerts::record::Partition;
use guard_core::snapshot::CallError;
use jiff::Timestamp;

use super::{Notifier, Outbox};
use crate::invocation::Invocation;
use crate::table::{WATCHED, Write};

impl Notifier {
    /// Closes the alerts on endpoint services that this function watched before its configuration changed. Once per
    /// instance is enough, because a new configuration starts new instances.
    ///
    /// # Errors
    /// If the table or SNS failed; the next run tries again.
    pub async fn close_removed_services(&self, invocation: &Invocation, now: Timestamp) -> Result<(), CallError> {
        if self.removed_services_closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let configured: BTreeSet<String> = self.settings.policy.services.iter().map(ToString::to_string).collect();
        let (watched, version) = self.table.note::<BTreeSet<String>>(WATCHED, self.function).await?;
        let watched = watched.unwrap_or_default();
        let mut all_closed = true;
        for service in watched.difference(&configured) {
            if let Ok(service) = service.parse() {
                all_closed &= self.close(&Partition::Service(service), invocation, now).await?;
            }
        }
        if !all_closed {
            return Ok(());
        }
        if watched != configured {
            self.table.put_note(WATCHED, self.function, &configured, version).await?;
        }
        self.removed_services_closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Closes the alerts of `partition`. Returns `false` while another run holds the lease on one of them.
    async fn close(
        &self,
        partition: &Partition,
        Invocation { id, origin, .. }: &Invocation,
        now: Timestamp,
    ) -> Result<bool, CallError> {
        let items = self.table.load(partition).await?;
        let (writes, leased_elsewhere) = self.reconciler(id, origin, now).close(&items);
        let mut all_closed = !leased_elsewhere;
        let mut outbox = Outbox::new(partition);
        for write in writes {
            match self.table.put(partition, &write.key, &write.record, write.expected, now).await? {
                Write::Won(version) => outbox.extend(write, version),
                Write::Lost => all_closed = false,
            }
        }
        self.publish(outbox, None, origin, now).await.map(|()| all_closed)
    }
}
