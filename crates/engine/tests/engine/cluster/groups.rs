//! Groups and lists across nodes: who is in them when, and who reads what.

use crate::cluster::Cluster;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;
use photinus_engine::outbox::{Action, FormatSet, Marks, OutBatch, OutRoute, Owner};
use photinus_proto::bluenet::control::Tag;

fn to_group(group: u32) -> Action {
    Action::GroupSend {
        group,
        but: Handle::NONE,
        format: FormatSet::ANY,
        route: OutRoute::Number(7),
        marks: Marks::NONE,
    }
}

#[test]
fn members_get_what_is_sent_between_their_coming_and_going() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let (mut first, home, one) = cluster.join(0);
    let (mut second, _, two) = cluster.join(0);
    let world = &mut cluster.members[home];
    let (group, member) = (4, two);
    world.post(Action::GroupAdd { group, member: one }, b"");
    for (action, text) in [
        (to_group(4), "before"),
        (Action::GroupAdd { group, member }, ""),
        (to_group(4), "within"),
        (Action::GroupRemove { group, member }, ""),
        (to_group(4), "after"),
    ] {
        world.post(action, text.as_bytes());
    }
    cluster.settle();
    assert_eq!(first.frames(), [&b"before"[..], b"within", b"after"]);
    assert_eq!(second.frames(), [b"within"]);
}

#[test]
fn who_has_moved_is_in_no_group_of_the_node_it_left() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let (mut stays, home, one) = cluster.join(0);
    let (mut goes, two) = loop {
        let (client, where_to, session) = cluster.join(0);
        if where_to == home {
            break (client, session);
        }
    };
    let group = 4;
    for member in [one, two] {
        cluster.members[home].post(Action::GroupAdd { group, member }, b"");
    }
    let there = cluster.leave_home(home, two, b"");
    // To those who have left nothing is sent, neither alone nor in a list.
    let mut batch = OutBatch::default();
    for member in [one, two] {
        batch.arena.extend(member.0.to_be_bytes());
    }
    let action = Action::SendList {
        sessions: 2,
        format: FormatSet::ANY,
        route: OutRoute::Number(7),
        marks: Marks::NONE,
    };
    batch.push(action, b"listed");
    cluster.members[home].hand_over();
    let _ = cluster.members[home].engine.hand_over(0, batch);
    cluster.settle();
    let arrived = cluster.members[there].event(Event::Arrived);
    let tag = Tag(arrived.id);
    cluster.members[there].own(arrived.handle, Owner::Arrived { tag }, b"");
    cluster.settle();
    cluster.members[home].event(Event::Gone);
    cluster.members[home].post(to_group(group), b"of the old node");
    cluster.settle();
    assert_eq!(stays.frames(), [&b"listed"[..], b"of the old node"]);
    assert_eq!(goes.frames(), [b""; 0]);
}

#[test]
fn a_list_reaches_those_who_read_its_format() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let (mut packed, home, one) = cluster.join(0);
    let mut json = cluster.connect(0, 20, "pomelo");
    json.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    let (_, two) = cluster.opened();
    json.packages();
    let mut batch = OutBatch::default();
    for (format, body) in [(FormatSet::JSON, &b"{}"[..]), (FormatSet::MSGPACK, b"\x80")] {
        for member in [one, two] {
            batch.arena.extend(member.0.to_be_bytes());
        }
        let action = Action::SendList {
            sessions: 2,
            format,
            route: OutRoute::Number(7),
            marks: Marks::NONE,
        };
        batch.push(action, body);
    }
    let _ = cluster.members[home].engine.hand_over(0, batch);
    cluster.settle();
    let packages = json.packages();
    assert_eq!(packages.len(), 1, "{packages:?}");
    assert!(packages[0].ends_with(b"{}"));
    // length4 has no format of its own but its listener's.
    assert_eq!(packed.frames().len(), 1);
}

#[test]
fn a_lost_nodes_groups_end_with_it() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let mut clients = Vec::new();
    let mut of = [Vec::new(), Vec::new(), Vec::new()];
    while of[1].is_empty() || of[2].is_empty() {
        let (client, home, session) = cluster.join(0);
        cluster.members[home].post(
            Action::GroupAdd {
                group: 4,
                member: session,
            },
            b"",
        );
        of[home].push(clients.len());
        clients.push(client);
    }
    cluster.settle();
    let name = cluster.members[2].name.clone();
    cluster.network.kill(&name);
    cluster.members.truncate(2);
    cluster.pass(5_000);
    cluster.members[1].post(to_group(4), b"those of this one");
    cluster.settle();
    for (number, client) in clients.iter_mut().enumerate() {
        let its = usize::from(of[1].contains(&number));
        assert_eq!(client.frames().len(), its, "{number}");
    }
}

#[test]
fn a_group_crosses_a_link_once() {
    let mut cluster = Cluster::new(2, 1, &Limits::default());
    let world = 2;
    let mut clients = Vec::new();
    let mut sessions = Vec::new();
    for number in 0..20 {
        let (client, home, session) = cluster.join(number % 2);
        assert_eq!(home, world);
        let member = &mut cluster.members[home];
        member.post(
            Action::GroupAdd {
                group: 4,
                member: session,
            },
            b"",
        );
        clients.push(client);
        sessions.push(session);
    }
    cluster.settle();
    let before = cluster.members[world].count("relayed_out");
    let send = |cluster: &mut Cluster, but, payload: &[u8]| {
        let action = Action::GroupSend {
            group: 4,
            but,
            format: FormatSet::ANY,
            route: OutRoute::Number(7),
            marks: Marks::NONE,
        };
        cluster.members[world].post(action, payload);
        cluster.settle();
    };
    send(&mut cluster, sessions[3], b"all");
    assert_eq!(cluster.members[world].count("relayed_out"), before + 2);
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = usize::from(number != 3);
        assert_eq!(client.frames().len(), expected, "{number}");
    }
    let member = sessions[5];
    cluster.members[world].post(Action::GroupRemove { group: 4, member }, b"");
    clients[6].link.close();
    cluster.settle();
    send(&mut cluster, Handle::NONE, b"again");
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = usize::from(number != 5 && number != 6);
        assert_eq!(client.frames().len(), expected, "{number}");
    }
    let list: Vec<u8> = [1, 2, 7]
        .into_iter()
        .flat_map(|of: usize| sessions[of].0.to_be_bytes())
        .collect();
    let member = &mut cluster.members[world];
    let mut batch = OutBatch::default();
    batch.arena.extend_from_slice(&list);
    let action = Action::SendList {
        sessions: 3,
        format: FormatSet::ANY,
        route: OutRoute::Number(7),
        marks: Marks::NONE,
    };
    batch.push(action, b"listed");
    let _ = member.engine.hand_over(0, batch);
    cluster.settle();
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = usize::from([1, 2, 7].contains(&number));
        assert_eq!(client.frames().len(), expected, "{number}");
    }
}
