//! The native applications of a reactor (`app.rs`): their packets, their ticks, and what they hear of sessions.

use super::{Reactor, NS_A_MS};
use crate::app::{self, App, Context, Packet, Registration};
use crate::back::Back;
use crate::handle::Handle;
use crate::inbox::{Event, Item};
use crate::remote::HOME;
use std::sync::Arc;

/// One of them, at work.
pub struct Running {
    app: Box<dyn App>,
    /// How many it has.
    routes: usize,
    tick_ms: Option<u64>,
    /// When its next tick is due.
    next_ms: Option<u64>,
}

impl<B: Back> Reactor<B> {
    /// Makes those that are new. None ever goes.
    pub(super) fn meet_apps(&mut self, registered: &[Arc<Registration>]) {
        for of in &registered[self.apps.len()..] {
            self.apps.push(Running {
                app: (of.make)(),
                routes: of.routes.len(),
                tick_ms: of.tick_ms,
                next_ms: of.tick_ms.map(|every| self.now_ms + every),
            });
        }
    }

    /// Gives a packet that lies in this turn's arena to the application whose route it came under. `false`:
    /// there is none. What it tells is still to be passed on.
    #[inline]
    pub(super) fn offer_to_app(&mut self, item: &Item) -> bool {
        let Some((number, route)) = app::of_index(item.route) else {
            return false;
        };
        let Event::Packet(kind) = item.event else {
            return false;
        };
        // Another node's word for it may be wrong.
        let running = self.apps.get(number);
        if running.is_none_or(|of| route.is_some_and(|route| route >= of.routes)) {
            self.statistics.counts.unknown_routes.add(1);
            return true;
        }
        let arena = std::mem::take(&mut self.batch.arena);
        let packet = Packet {
            session: item.handle,
            kind,
            id: item.id,
            number: item.number,
            route,
            body: &arena[item.start as usize..][..item.len as usize],
        };
        self.call_app(number, |app, context| app.packet(context, &packet));
        self.batch.arena = arena;
        self.statistics.counts.native_packets.add(1);
        true
    }

    /// What became of a session that is owned here.
    pub(super) fn tell_apps(&mut self, session: Handle, event: Event, target: u32) {
        if self.apps.is_empty() || event == Event::Arrived && target != HOME {
            return;
        }
        for number in 0..self.apps.len() {
            match event {
                Event::Opened | Event::Arrived => {
                    self.call_app(number, |app, context| app.opened(context, session));
                }
                Event::Closed | Event::Gone => {
                    self.call_app(number, |app, context| app.closed(context, session));
                }
                _ => {}
            }
        }
        self.tell_for_apps();
    }

    pub(super) fn tick_apps(&mut self) {
        for number in 0..self.apps.len() {
            let of = &mut self.apps[number];
            let (Some(every), Some(next)) = (of.tick_ms, of.next_ms) else {
                continue;
            };
            if self.now_ms >= next {
                of.next_ms = Some((next + every).max(self.now_ms + 1));
                self.call_app(number, |app, context| app.tick(context));
            }
        }
        self.tell_for_apps();
    }

    pub(super) fn next_tick_ms(&self) -> Option<u64> {
        self.apps.iter().filter_map(|of| of.next_ms).min()
    }

    fn call_app(&mut self, number: usize, call: impl FnOnce(&mut dyn App, &mut Context<'_>)) {
        let Some(running) = self.apps.get_mut(number) else {
            return;
        };
        let mut context = Context {
            now_ns: self.told.max(self.now_ms * NS_A_MS),
            out: &mut self.relayed,
            names: &mut self.out.names,
            events: &mut self.app_events,
        };
        call(&mut *running.app, &mut context);
    }

    /// Passes on to Python what they have told while a connection's bytes are decoded: their text goes to `tail`.
    pub(super) fn tell_for_apps_behind(&mut self, tail: &mut usize) {
        for (handle, text) in std::mem::take(&mut self.app_events) {
            let place = self.batch.append_at(tail, &text);
            self.push_event(Item {
                handle,
                event: Event::FromApp,
                id: 0,
                route: 0,
                number: 0,
                start: place.start as u32,
                len: text.len() as u32,
            });
        }
    }

    /// Passes on to Python what they have told.
    pub(super) fn tell_for_apps(&mut self) {
        for (session, text) in std::mem::take(&mut self.app_events) {
            self.tell_bytes(session, Event::FromApp, 0, 0, 0, &text);
        }
    }
}
