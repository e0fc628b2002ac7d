//! What a connector has learned of how its app takes its names, for as long as the process runs.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::http1::hop::hints::NameHint;
use crate::limits;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Naming {
    /// The app refuses requests that say the visitor's name in X-Forwarded-Host.
    refuses_visitors_name: AtomicBool,
    /// A bit for each hint that was given.
    given: AtomicU32,
    /// Responses that were looked into for one.
    refusals: AtomicU32,
    others: AtomicU32,
}

impl Naming {
    /// Whether the app refuses requests that say the visitor's name in X-Forwarded-Host.
    pub(crate) fn refuses_visitors_name(&self) -> bool {
        self.refuses_visitors_name.load(Ordering::Relaxed)
    }

    /// The app refuses those; true if that is news.
    pub(crate) fn learn_refusal(&self) -> bool {
        !self.refuses_visitors_name.swap(true, Ordering::Relaxed)
    }

    /// Whether one more response may be looked into: [`limits::NAME_HINT_LOOKS_MAX`] of those that may be refusals, and as
    /// many others as long as there is a hint left that they may give. Those are not counted here.
    pub(crate) fn may_look(&self, is_refusal: bool) -> bool {
        let looks = if is_refusal { &self.refusals } else { &self.others };
        let given =
            !is_refusal && self.given.load(Ordering::Relaxed) & bit(NameHint::SendsVisitorsToItself) != 0;
        !given && looks.load(Ordering::Relaxed) < limits::NAME_HINT_LOOKS_MAX
    }

    /// A response is looked into.
    pub(crate) fn count_look(&self, is_refusal: bool) {
        let looks = if is_refusal { &self.refusals } else { &self.others };
        looks.fetch_add(1, Ordering::Relaxed);
    }

    /// A response gave a hint; true the first time.
    pub(crate) fn give(&self, hint: NameHint) -> bool {
        self.given.fetch_or(bit(hint), Ordering::Relaxed) & bit(hint) == 0
    }
}

fn bit(hint: NameHint) -> u32 {
    1 << hint as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hint_is_given_once_and_only_so_many_responses_are_looked_into() {
        let naming = Naming::default();
        assert!(naming.give(NameHint::Vite) && !naming.give(NameHint::Vite) && naming.give(NameHint::Rails));
        for _ in 0..limits::NAME_HINT_LOOKS_MAX {
            assert!(naming.may_look(true));
            naming.count_look(true);
        }
        assert!(!naming.may_look(true) && naming.may_look(false));
        assert!(naming.give(NameHint::SendsVisitorsToItself));
        assert!(!naming.may_look(false), "there is nothing left to say");
    }

    #[test]
    fn a_refusal_is_news_once() {
        let naming = Naming::default();
        assert!(!naming.refuses_visitors_name());
        assert!(naming.learn_refusal() && !naming.learn_refusal() && naming.refuses_visitors_name());
    }
}
