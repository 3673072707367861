//! The names of groups, and who is in them as Python sees it at once.
//!
//! The reactors keep their own member lists, changed by commands in order with the messages
//! (`photinus_engine::group`); this is what `len(group)` and `session in group` answer from.

use crate::engine::Engine;
use crate::session::Session;
use photinus_engine::handle::Handle;
use photinus_engine::outbox::{Action, FormatSet, Marks};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::{HashMap, HashSet};

#[pymethods]
impl Engine {
    /// False: it was a member, or has ended.
    fn group_add(
        &self,
        py: Python<'_>,
        group: &str,
        session: &Bound<'_, Session>,
    ) -> PyResult<bool> {
        self.check()?;
        let session = session.get();
        let (handle, closed) = session
            .fields
            .with(py, |fields| (Handle(fields.handle), fields.closed));
        if closed {
            return Ok(false);
        }
        let Some(number) = self.groups.with(py, |groups| groups.add(group, handle)) else {
            return Ok(false);
        };
        session.fields.with(py, |fields| fields.groups.push(number));
        let action = Action::GroupAdd {
            group: number,
            member: handle,
        };
        self.post(py, handle.reactor(), action, &[]);
        Ok(true)
    }

    /// False: it was no member.
    fn group_remove(
        &self,
        py: Python<'_>,
        group: &str,
        session: &Bound<'_, Session>,
    ) -> PyResult<bool> {
        self.check()?;
        let session = session.get();
        let handle = session.fields.with(py, |fields| Handle(fields.handle));
        let Some(number) = self.groups.with(py, |groups| groups.remove(group, handle)) else {
            return Ok(false);
        };
        session
            .fields
            .with(py, |fields| fields.groups.retain(|&of| of != number));
        let action = Action::GroupRemove {
            group: number,
            member: handle,
        };
        self.post(py, handle.reactor(), action, &[]);
        Ok(true)
    }

    /// One message to all members but one, encoded once a format.
    #[pyo3(signature = (group, route, message, but = None, *, droppable = false, secret = false))]
    #[allow(
        clippy::too_many_arguments,
        reason = "one call of Python's, as its type stub says it"
    )]
    fn group_send(
        &self,
        py: Python<'_>,
        group: &str,
        route: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        but: Option<&Bound<'_, Session>>,
        droppable: bool,
        secret: bool,
    ) -> PyResult<()> {
        self.check()?;
        let Some(number) = self.groups.with(py, |groups| groups.number(group)) else {
            return Ok(()); // nobody is in it
        };
        let members = self.groups.with(py, |groups| groups.len(group));
        self.cork.count_receivers(py, members);
        let route = self.out_route(py, route)?;
        let but = but.map_or(Handle::NONE, |session| {
            session
                .get()
                .fields
                .with(py, |fields| Handle(fields.handle))
        });
        let to_all = |format, payload: &[u8]| {
            let action = Action::GroupSend {
                group: number,
                but,
                format,
                route,
                marks: Marks::new(droppable, secret),
            };
            for reactor in 0..self.inner.reactors() {
                self.post(py, reactor, action, payload);
            }
        };
        if let Ok(bytes) = message.cast::<PyBytes>() {
            to_all(FormatSet::ANY, bytes.as_bytes());
            return Ok(());
        }
        let installed = self.encoders(py)?;
        for format in [FormatSet::JSON, FormatSet::MSGPACK] {
            if self.inner.shared.is_spoken(format) {
                let post = |encoded: &[u8]| to_all(format, encoded);
                self.encoded(py, &installed.encoders, format, message, post)?;
            }
        }
        Ok(())
    }

    fn group_len(&self, py: Python<'_>, group: &str) -> usize {
        self.groups.with(py, |groups| groups.len(group))
    }

    fn group_has(&self, py: Python<'_>, group: &str, session: &Bound<'_, Session>) -> bool {
        let handle = session
            .get()
            .fields
            .with(py, |fields| Handle(fields.handle));
        self.groups.with(py, |groups| groups.has(group, handle))
    }
}

#[derive(Default)]
pub struct Groups {
    numbers: HashMap<String, u32>,
    rows: Vec<Row>,
    /// Numbers of groups that have emptied. Commands are carried out in order, so a number can be
    /// given to the next name at once.
    vacant: Vec<u32>,
}

#[derive(Default)]
struct Row {
    name: String,
    members: HashSet<u32>,
}

impl Groups {
    /// The group's number, if it has members.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// `None`: it was a member.
    pub fn add(&mut self, name: &str, member: Handle) -> Option<u32> {
        let number = self.number(name).unwrap_or_else(|| {
            let number = self.vacant.pop().unwrap_or(self.rows.len() as u32);
            if number as usize == self.rows.len() {
                self.rows.push(Row::default());
            }
            self.rows[number as usize].name = name.to_owned();
            self.numbers.insert(name.to_owned(), number);
            number
        });
        self.rows[number as usize]
            .members
            .insert(member.0)
            .then_some(number)
    }

    /// `None`: it was no member.
    pub fn remove(&mut self, name: &str, member: Handle) -> Option<u32> {
        let number = self.number(name)?;
        self.take_out(number, member).then_some(number)
    }

    /// Out of the group of this number; an emptied group's name is forgotten.
    pub fn take_out(&mut self, number: u32, member: Handle) -> bool {
        let Some(row) = self.rows.get_mut(number as usize) else {
            return false;
        };
        let was = row.members.remove(&member.0);
        if was && row.members.is_empty() {
            row.members = HashSet::new();
            self.numbers.remove(&std::mem::take(&mut row.name));
            self.vacant.push(number);
        }
        was
    }

    pub fn len(&self, name: &str) -> usize {
        self.number(name)
            .map_or(0, |number| self.rows[number as usize].members.len())
    }

    pub fn has(&self, name: &str, member: Handle) -> bool {
        let has = |number: u32| self.rows[number as usize].members.contains(&member.0);
        self.number(name).is_some_and(has)
    }
}
