//! Links between engines, over sockets.

use crate::nodes::Node;
use photinus_proto::bluenet::header::{Kind, Priority};

#[test]
fn frames_cross_both_ways() {
    let (mut a, mut b) = (Node::named("a"), Node::named("b"));
    b.dial("a", &a.listen());
    let (to_b, to_a) = (a.linked("b"), b.linked("a"));
    a.push(to_b, Priority::Usual, b"down");
    a.flush(to_b);
    b.push(to_a, Priority::High, b"up");
    b.flush(to_a);
    for (node, link, priority, body) in [
        (&mut a, to_b, Priority::High, &b"up"[..]),
        (&mut b, to_a, Priority::Usual, b"down"),
    ] {
        node.wait("a frame", |of| !of.frames.is_empty());
        let [frame] = &node.frames[..] else {
            panic!("{:?}", node.frames);
        };
        assert_eq!((frame.handle, &frame.body[..]), (link, body));
        assert_eq!((frame.id, frame.number), (7, 9));
        assert_eq!(frame.route, Kind::Service as u32 | (priority as u32) << 3);
        let [up] = &node.events[..] else {
            panic!("{:?}", node.events);
        };
        assert_eq!(up.number, 2, "a world node");
    }
}
