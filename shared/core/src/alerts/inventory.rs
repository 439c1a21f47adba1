//! The stored ids of connection notifications and of route table associations. AWS names their deletion only by the id,
//! and by then no read shows that id any more. drift-watcher stores the ids to find out who deleted one. It stores
//! listeners as well: without `LISTENER_PORTS`, nothing else shows that dbt's listener is gone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::record::{Items, Key};
use crate::checks::listener_port::{LISTENER, listener_id};
use crate::ids::ServiceId;
use crate::snapshot::Topology;

/// Time for which a deleted id is stored: longer than CloudTrail's delay.
const REMEMBER_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Time for which a deleted listener is stored.
const REMEMBER_LISTENERS_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The ids, each with the time of its disappearance; `None` while it is in place.
pub type Inventory = BTreeMap<String, Option<Timestamp>>;

/// The prefix of a connection notification's id.
const NOTIFICATION: &str = "vpce-nfn-";

/// The ids of the endpoint service's connection notifications, of the route table associations of its load balancers'
/// subnets, and of their listeners; `None` if a read failed. If this run did not read the notifications, those in the
/// records of `items` count as in place.
pub fn in_place(items: Option<&Items>, topology: &Topology, service: &ServiceId) -> Option<BTreeSet<String>> {
    let (mut subnets, mut listeners) = (BTreeSet::new(), BTreeSet::new());
    for load_balancer in topology.load_balancers_of(service).ok()? {
        listeners.extend(load_balancer.listeners.as_ref().ok()?.iter().filter_map(|it| listener_id(load_balancer, it)));
        let description = load_balancer.description.as_ref().ok()?;
        subnets.extend(description.zones.iter().map(|zone| zone.subnet.as_str()));
    }
    let tables = topology.network.as_ref()?.route_tables.as_ref().ok()?;
    let associations = tables.iter().flat_map(|table| &table.associations);
    let associations = associations.filter(|(subnet, _)| subnets.contains(subnet.as_str())).map(|(_, id)| id.clone());
    let notifications: BTreeSet<String> = match &topology.notifications {
        Some(Ok(notifications)) => {
            let own = notifications.iter().filter(|notification| notification.service == *service);
            own.map(|notification| notification.id.clone()).collect()
        }
        Some(Err(_)) => return None,
        None => {
            let known =
                inventories(items?).flatten().filter(|(id, gone)| id.starts_with(NOTIFICATION) && gone.is_none());
            known.map(|(id, _)| id.clone()).collect()
        }
    };
    Some(notifications.into_iter().chain(associations).chain(listeners).collect())
}

/// The stored ids of the endpoint service that are no longer in place, as far as the reads show. A listener counts as
/// gone whenever its load balancer's listeners were read, even if another read failed.
pub fn gone(items: &Items, topology: &Topology, service: &ServiceId) -> BTreeSet<String> {
    let (listeners, others): (BTreeSet<String>, BTreeSet<String>) =
        ids(items).into_iter().partition(|id| id.starts_with(LISTENER));
    let load_balancers = topology.load_balancers_of(service).unwrap_or_default();
    let serving: BTreeSet<String> = load_balancers
        .into_iter()
        .flat_map(|it| it.listeners.iter().flatten().filter_map(|listener| listener_id(it, listener)))
        .collect();
    let others = in_place(Some(items), topology, service).map(|in_place| &others - &in_place);
    &(&listeners - &serving) | &others.unwrap_or_default()
}

/// The next inventory. It changes only when an id appears, disappears or expires.
pub fn next(before: Option<&Inventory>, in_place: &BTreeSet<String>, now: Timestamp) -> Inventory {
    let remembered = before.into_iter().flatten().map(|(id, gone)| (id.clone(), Some(gone.unwrap_or(now))));
    let keep_for = |id: &str| if id.starts_with(LISTENER) { REMEMBER_LISTENERS_FOR } else { REMEMBER_FOR };
    let recent = remembered.filter(|(id, gone)| gone.is_none_or(|gone| now.duration_since(gone) < keep_for(id)));
    recent.chain(in_place.iter().map(|id| (id.clone(), None))).collect()
}

fn ids(items: &Items) -> BTreeSet<String> {
    inventories(items).flat_map(|inventory| inventory.keys().cloned()).collect()
}

fn inventories(items: &Items) -> impl Iterator<Item = &Inventory> {
    let inventories = items.iter().filter(|(key, _)| key.subject == Key::INVENTORY);
    inventories.filter_map(|(_, item)| item.record.as_ref()?.inventory())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::record::{Item, Record, State, Version};
    use crate::snapshot::{LoadBalancer, Network, Notification, RouteTable};
    use crate::testing::{
        at, call_error, endpoint_service, item, listener, load_balancer, network, route_table, service, target_group,
        topology,
    };

    #[test]
    fn a_deleted_id_is_stored_for_a_day() {
        let seen = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<BTreeSet<String>>();
        let both = next(None, &seen(&["rtbassoc-1", "vpce-nfn-1"]), at(8, 0));
        assert_eq!(both.values().flatten().count(), 0);
        assert_eq!(next(Some(&both), &seen(&["rtbassoc-1", "vpce-nfn-1"]), at(8, 15)), both, "nothing to write");
        let one = next(Some(&both), &seen(&["rtbassoc-1"]), at(8, 30));
        assert_eq!(one.get("vpce-nfn-1"), Some(&Some(at(8, 30))));
        assert_eq!(next(Some(&one), &seen(&["rtbassoc-1"]), at(8, 45)), one, "since when it is gone stays");
        let a_day_later = next(Some(&one), &seen(&["rtbassoc-1"]), at(8, 30) + SignedDuration::from_hours(24));
        assert_eq!(a_day_later.keys().collect::<Vec<_>>(), ["rtbassoc-1"]);
        let back = next(Some(&one), &seen(&["rtbassoc-1", "vpce-nfn-1"]), at(9, 0));
        assert_eq!(back.get("vpce-nfn-1"), Some(&None));
    }

    #[test]
    fn a_failed_read_does_not_bring_a_gone_listener_back() {
        let group = target_group("pg");
        let balancer = |ports: &[u16]| LoadBalancer {
            listeners: Ok(ports.iter().map(|port| listener("TCP", *port, &group)).collect()),
            ..load_balancer("pg", vec![group.clone()])
        };
        let read =
            |ports: &[u16]| Topology { network: Some(network()), ..topology(endpoint_service(), [balancer(ports)]) };
        let first = next(None, &in_place(Some(&Items::new()), &read(&[443, 5432]), &service(1)).unwrap(), at(8, 0));
        let later = next(Some(&first), &in_place(Some(&Items::new()), &read(&[443]), &service(1)).unwrap(), at(9, 0));
        let record = |inventory: &Inventory| Some(Record::new(State::Inventory(inventory.clone()), at(9, 0)));
        let items = Items::from([(
            Key::new("drift-watcher", Key::INVENTORY, "vpce-svc-1"),
            Item { record: record(&later), version: Version::At(1) },
        )]);
        let gone_in = |topology: &Topology| gone(&items, topology, &service(1)).len();
        assert_eq!((gone_in(&read(&[443])), gone_in(&read(&[443, 5432]))), (1, 0));
        assert_eq!(gone_in(&Topology { network: None, ..read(&[443]) }), 1, "the network could not be read");
        let six_days = at(9, 0) + SignedDuration::from_hours(6 * 24);
        let in_place = in_place(Some(&Items::new()), &read(&[443]), &service(1)).unwrap();
        assert_eq!(next(Some(&later), &in_place, six_days).len(), 2);
        assert_eq!(next(Some(&later), &in_place, six_days + SignedDuration::from_hours(24)).len(), 1);
    }

    #[test]
    fn an_inventory_has_notifications_associations_and_listeners() {
        let association = |subnet: &str, id: &str| (subnet.to_owned(), id.to_owned());
        let associations = [association("subnet-a", "rtbassoc-a"), association("subnet-other", "rtbassoc-other")];
        let table = RouteTable { associations: associations.into(), ..route_table("rtb-1") };
        let network = Network { route_tables: Ok(vec![table]), ..network() };
        let mut topology = topology(endpoint_service(), [load_balancer("pg", Vec::new())]);
        let known: Inventory = [("vpce-nfn-9".to_owned(), None), ("vpce-nfn-8".to_owned(), Some(at(8, 0)))].into();
        let items = Items::from([(Key::new("f", Key::INVENTORY, "vpce-svc-1"), item(State::Inventory(known)))]);
        let in_place = |items, topology: &Topology| in_place(items, topology, &service(1));
        assert_eq!(in_place(Some(&items), &topology), None, "the network was not read");
        topology.network = Some(network);
        let ids = |ids: &[&str]| Some(ids.iter().map(ToString::to_string).collect());
        let not_asked = in_place(Some(&items), &topology);
        assert_eq!(not_asked, ids(&["rtbassoc-a", "vpce-nfn-9"]), "as far as this run asked");
        assert_eq!(in_place(None, &topology), None, "nor is it remembered");
        topology.notifications =
            Some(Ok(vec![notification(service(1), "vpce-nfn-1"), notification(service(2), "vpce-nfn-2")]));
        assert_eq!(in_place(Some(&items), &topology), ids(&["rtbassoc-a", "vpce-nfn-1"]));
        topology.notifications = Some(Err(call_error("ec2:DescribeVpcEndpointConnectionNotifications")));
        assert_eq!(in_place(Some(&items), &topology), None);
    }

    #[test]
    fn stored_ids_come_only_from_inventories() {
        let stored = |subject: &str, id: &str| {
            let inventory = Inventory::from([(id.to_owned(), None)]);
            (Key::new("drift-watcher", subject, "vpce-svc-1"), item(State::Inventory(inventory)))
        };
        let items = Items::from([stored(Key::INVENTORY, "rtbassoc-1"), stored("other", "rtbassoc-2")]);
        assert_eq!(ids(&items), BTreeSet::from(["rtbassoc-1".to_owned()]));
    }

    fn notification(service: ServiceId, id: &str) -> Notification {
        Notification { id: id.to_owned(), service, topic: "topic".to_owned(), events: Vec::new(), enabled: true }
    }
}
