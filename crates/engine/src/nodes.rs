//! What an engine has to do with other nodes: who it is among them, and to whom it keeps links.

use crate::engine::{Engine, EngineError};
use crate::link::LinkReport;
use crate::listener::DialUrl;
use crate::lock::lock;
use crate::outbox::{Dialled, Handover};
use crate::resolver::look_up;
use photinus_proto::link::hello::{Identity, Roles, MOST_NAME_BYTES};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::Arc;

impl Engine {
    /// Who this node is to the others of its cluster. Once, before links are listened for or dialled.
    pub fn join(&self, identity: Identity) -> Result<(), EngineError> {
        if !identity.is_valid() {
            return Err(EngineError::Wrong(format!(
                "node {:?} of cluster {:?}: expected names of 1 to {MOST_NAME_BYTES} bytes and a role",
                identity.node, identity.cluster
            )));
        }
        match self.shared.set_identity(identity) {
            true => Ok(()),
            false => Err(EngineError::Wrong(
                "this node has joined a cluster already".to_owned(),
            )),
        }
    }

    /// Keeps a link to this node from now on, at `tcp://HOST:PORT` or `tls://HOST:PORT`: one of each reactor of a
    /// proxy, since any may hold clients, and else of the one that accepts links. Another URL than before ends the
    /// link that there is, the same one changes nothing. Blocks while the name is looked up; one that is not found now is looked up again.
    pub fn dial(&self, node: &str, url: &str) -> Result<(), EngineError> {
        self.check()?;
        let wrong = |what: &str| EngineError::Wrong(format!("link {url:?}: {what}"));
        let parsed = DialUrl::parse(url).map_err(EngineError::Wrong)?;
        let identity = self.identity(url)?;
        if node == identity.node {
            return Err(wrong("expected another node, and not this one"));
        }
        let addresses = match self.is_memory() {
            true => vec![parsed.place()],
            false => {
                let found = match look_up(&parsed) {
                    Ok(found) => found,
                    Err(_) if !parsed.is_figures() => Vec::new(),
                    Err(error) => return Err(error.into()),
                };
                self.check_link(url, &identity, (parsed.tls, parsed.plain), &found)?;
                if !parsed.is_figures() {
                    self.shared.resolver.start(self.mailboxes.clone())?;
                }
                found.iter().map(ToString::to_string).collect()
            }
        };
        let reactors = match identity.roles.has(Roles::PROXY) {
            true => 0..self.mailboxes.len(),
            false => self.link_reactor()..self.link_reactor() + 1,
        };
        self.in_use.fetch_max(reactors.end, Release);
        let to = Dialled {
            node: node.into(),
            url: parsed,
            addresses,
        };
        for mailbox in &self.mailboxes[reactors] {
            mailbox.post(Handover::Dial(Box::new(to.clone())), 1);
        }
        if self.started.load(Relaxed) {
            self.start()?;
        }
        Ok(())
    }

    /// Keeps no link to this node any more; what links there are to it are lost.
    pub fn hang_up(&self, node: &str) {
        for mailbox in &self.mailboxes[..self.reactors()] {
            mailbox.post(Handover::HangUp { node: node.into() }, 1);
        }
    }

    /// Links that there are, and nodes that are dialled and have none.
    pub fn links(&self) -> Vec<LinkReport> {
        let all = self.shared.statistics.iter();
        all.flat_map(|of| lock(&of.links).clone()).collect()
    }

    pub(crate) fn identity(&self, url: &str) -> Result<Arc<Identity>, EngineError> {
        let identity = self.shared.identity();
        identity.ok_or_else(|| {
            EngineError::Wrong(format!("link {url:?}: this node has not joined a cluster"))
        })
    }

    /// The reactor that accepts links, and dials them for a node that is no proxy: led by a native thread.
    pub(crate) fn link_reactor(&self) -> usize {
        self.mailboxes.len() - 1
    }

    /// Whether a link may be there: it has certificates, or no network is between, or somebody has said that it is
    /// trusted; and there is something that a node is known by.
    pub(crate) fn check_link(
        &self,
        url: &str,
        identity: &Identity,
        (tls, plain): (bool, bool),
        addresses: &[SocketAddr],
    ) -> Result<(), EngineError> {
        let wrong = |what: &str| EngineError::Wrong(format!("link {url:?}: {what}"));
        if tls {
            let certificates = self.shared.certificates();
            return match certificates.is_some_and(|of| of.links.is_some()) {
                true => Ok(()),
                false => Err(wrong(
                    "needs certificates of both sides: give [tls] certificate, key and client_ca",
                )),
            };
        }
        let near = |of: &SocketAddr| of.ip().to_canonical().is_loopback();
        if addresses.iter().all(near) {
            return Ok(());
        }
        if !plain {
            return Err(wrong(
                "leaves this machine, so it needs tls://; or plain=1, if nobody else is on that network",
            ));
        }
        match identity.secret.is_empty() {
            true => Err(wrong(
                "without tls:// nodes are known by their secret: give [cluster] secret",
            )),
            false => Ok(()),
        }
    }
}
