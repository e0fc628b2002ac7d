//! The scripted apps of a world.

use std::time::Duration;

use super::{Actor, End, READ_BYTES, World};
use crate::drive::Close;
use crate::sim::app::{Act, App, AppRequest};
use crate::sim::pipe::Item;

impl World {
    /// Starts an app that answers each request with these acts.
    pub fn start_app(&mut self, name: &str, handler: impl FnMut(&AppRequest) -> Vec<Act> + 'static) {
        let app = App {
            handler: Box::new(handler),
            up: true,
            dial_time: Duration::ZERO,
            bottleneck: None,
            keeps_bodies: true,
            requests: Vec::new(),
            connections: 0,
            one_at_a_time: false,
            serving: None,
        };
        self.apps.insert(name.to_owned(), app);
    }

    pub(super) fn app(&mut self, name: &str) -> &mut App {
        self.apps.get_mut(name).expect("an app of this world")
    }

    /// Whether an app takes connections.
    pub fn set_app_up(&mut self, name: &str, up: bool) {
        self.app(name).up = up;
    }

    /// An app only counts the bodies that it gets from now on.
    pub fn forget_bodies(&mut self, name: &str) {
        self.app(name).keeps_bodies = false;
    }

    /// How long an app lets those wait who connect.
    pub fn set_app_dial_ms(&mut self, name: &str, ms: u64) {
        self.app(name).dial_time = Duration::from_millis(ms);
    }

    /// The requests that an app got, in the order in which their heads came.
    pub fn requests(&self, app: &str) -> &[AppRequest] {
        &self.apps.get(app).expect("an app of this world").requests
    }

    /// How many connections an app has that somebody holds the other end of.
    pub fn app_connections(&self, app: &str) -> usize {
        let is_held =
            |end: &End| end.peer.is_some_and(|peer| matches!(self.ends[peer].actor, Actor::Machine(_)));
        let of_app = |end: &&End| matches!(&end.actor, Actor::App { app: name, .. } if name == app);
        self.ends.iter().filter(of_app).filter(|end| is_held(end)).count()
    }

    /// An app serves one connection to its end before it looks at the next, from now on.
    pub fn serve_one_at_a_time(&mut self, name: &str) {
        self.app(name).one_at_a_time = true;
    }

    /// Whether an app looks at this connection.
    fn is_served(&mut self, end: usize) -> bool {
        let Actor::App { app, .. } = &self.ends[end].actor else { return false };
        let app = self.apps.get_mut(app).expect("an app of this world");
        let is_another =
            |other: &usize| *other != end && matches!(self.ends[*other].actor, Actor::App { .. });
        let is_served = !app.one_at_a_time || !app.serving.as_ref().is_some_and(is_another);
        if is_served {
            app.serving = Some(end);
        }
        is_served
    }

    pub(super) fn turn_app(&mut self, end: usize) -> bool {
        if !self.is_served(end) {
            return false;
        }
        let read = self.app_reads(end);
        let acted = self.app_acts(end);
        read || acted
    }

    fn app_reads(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let End { inbound, actor: Actor::App { app, conn, stop_until, .. }, .. } = &mut self.ends[end] else {
            return false;
        };
        if stop_until.is_some_and(|until| until > now) {
            return false;
        }
        *stop_until = None;
        let Some(item) = inbound.read(now, READ_BYTES) else { return false };
        match item {
            Item::Bytes(bytes) => {
                conn.received(&bytes, self.apps.get_mut(app).expect("an app of this world"));
            }
            Item::End => conn.ended = true,
            Item::Reset => {
                self.ends[end].actor = Actor::Gone;
            }
        }
        true
    }

    fn app_acts(&mut self, end: usize) -> bool {
        let now = self.clock.now();
        let room = self.room(end);
        let Actor::App { app, conn, wait_until, stop_until } = &mut self.ends[end].actor else {
            return false;
        };
        if wait_until.is_some_and(|until| until > now) {
            return false;
        }
        *wait_until = None;
        let body_is_whole = conn.has_body();
        let Some(act) = conn.acts.front_mut() else {
            let over = std::mem::take(&mut conn.ended);
            if over {
                self.let_go(end, Close::Quietly);
            }
            return over;
        };
        match act {
            Act::AwaitBody if !body_is_whole => return false,
            Act::Fill(left) if *left > 0 => {
                let portion = READ_BYTES.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= portion.min(room) as u64;
                let portion = self.put(end, &vec![0; portion]);
                return portion > 0;
            }
            Act::Send(bytes) if bytes.len() > room => {
                let portion: Vec<u8> = bytes.drain(..room).collect();
                self.put(end, &portion);
                self.is_full(end);
                return room > 0;
            }
            _ => {}
        }
        match conn.acts.pop_front() {
            Some(Act::Send(bytes)) => {
                self.put(end, &bytes);
            }
            Some(Act::Fill(_)) => {}
            Some(Act::WaitMs(ms)) => *wait_until = Some(now + Duration::from_millis(ms)),
            Some(Act::StopReadingMs(ms)) => *stop_until = Some(now + Duration::from_millis(ms)),
            Some(Act::AwaitBody) => {
                let request = conn.last(&self.apps[app.as_str()]);
                if !request.body.is_empty() {
                    let what = crate::transcript::portion(&request.body);
                    let name = self.ends[end].name.clone();
                    self.transcript.decided(now, &name, "body", &format!("whole: {what}"));
                }
            }
            Some(Act::Echo) => conn.echo = true,
            Some(Act::Mirror) => {
                conn.mirror = true;
                conn.reflect(&self.apps[app.as_str()]);
            }
            Some(Act::Finish) => self.put_end(end),
            Some(Act::Close) => self.let_go(end, Close::Quietly),
            Some(Act::Reset) => self.let_go(end, Close::Reset),
            None => {}
        }
        true
    }
}
