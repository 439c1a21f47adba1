//! What the deployed guard remembers: the records in its state table.

use anyhow::{Context, Result, anyhow};
use guard_aws::concurrently;
use guard_aws::table::StateTable;
use guard_core::alerts::record::{Items, Partition};
use guard_core::ids::ServiceId;
use guard_core::snapshot::CallError;

use crate::session::{Session, explained};
use crate::stack::DeployedStack;

/// The guard's table, and the records of each partition or the reason why they could not be read.
#[derive(Debug)]
pub struct GuardMemory {
    /// The table.
    pub table: StateTable,
    /// The endpoint services, and the guard's own partition last.
    pub partitions: Vec<(Partition, Result<Items, CallError>)>,
}

impl GuardMemory {
    /// Reads all records, one query per partition and page.
    ///
    /// # Errors
    /// If the stack is not the guard's.
    pub async fn load(session: &Session, stack: &DeployedStack) -> Result<Self> {
        let table = StateTable::new(&session.config, stack.output("StateTableName")?);
        let ids = stack.parameters.get("EndpointServiceIds");
        let ids = ids.context("The stack has no parameter EndpointServiceIds.")?;
        let services: Result<Vec<ServiceId>, _> = ids.split(',').map(|id| id.trim().parse()).collect();
        let partitions: Vec<Partition> =
            services?.into_iter().map(Partition::Service).chain([Partition::Guard]).collect();
        let loaded = concurrently(&partitions, |partition| table.load(partition)).await;
        Ok(Self { table, partitions: partitions.into_iter().zip(loaded).collect() })
    }

    /// The records of `service`, if they could be read and the stack watches it.
    pub fn of(&self, service: &ServiceId) -> Option<&Items> {
        let mut partitions = self.partitions.iter();
        partitions.find(|(partition, _)| partition.service() == Some(service))?.1.as_ref().ok()
    }

    /// The first failed read, explained.
    pub fn unread(&self) -> Option<String> {
        self.partitions.iter().find_map(|(_, items)| items.as_ref().err()).map(explained)
    }

    /// The records of all partitions.
    ///
    /// # Errors
    /// The first failed read, explained.
    pub fn complete(&self) -> Result<Vec<(&Partition, &Items)>> {
        let read = self.partitions.iter().map(|(partition, items)| match items {
            Ok(items) => Ok((partition, items)),
            Err(error) => Err(anyhow!(explained(error))),
        });
        read.collect()
    }
}
