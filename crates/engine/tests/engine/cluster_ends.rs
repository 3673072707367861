//! A session that ends while something of it is on its way to another owner leaves nothing behind, anywhere.

use crate::cluster::Cluster;
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;
use photinus_engine::outbox::Owner;
use photinus_proto::bluenet::control::Tag;

#[test]
fn an_old_home_forgets_what_it_left_with_when_the_session_ends() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let (client, home, session) = cluster.join(0);
    let new = (1..3).find(|of| *of != home).unwrap();
    let name = cluster.members[new].name.clone();
    let move_on = Owner::Move {
        request: 1,
        slot: 0,
        target: 0,
        class: 0,
    };
    cluster.members[home].own(session, move_on, name.as_bytes());
    cluster.settle();
    let tag = Tag(cluster.members[home].event(Event::Fence).id);
    cluster.members[home].own(session, Owner::Fenced { tag }, b"hero");
    cluster.settle();
    // It is on its way, and the new home has not answered.
    let arrived = cluster.members[new].event(Event::Arrived);
    client.link.close();
    cluster.settle();
    let closed = cluster.members[new].event(Event::Closed);
    assert_eq!(closed.handle, arrived.handle);
    let detached = cluster.members[home].event(Event::Detached);
    assert_eq!((detached.handle, Tag(detached.id)), (session, tag));
    assert_eq!(cluster.members[home].event(Event::Gone).handle, session);
    for member in &cluster.members {
        assert_eq!(member.count("sessions"), 0, "{}", member.name);
    }
}
