//! Which of a CPU's vCPUs runs next.
//!
//! Each runs in proportion to its weight. The time it has had is counted in
//! *virtual* ticks, which pass the more slowly the more weight it has; of those
//! that are ready, the one that has had least is next. Whoever wakes up is
//! credited at most one slice of the time that it slept through, so that it soon
//! has the CPU, but not for long. Priorities are strict: as long as one of a
//! higher priority is ready, none of a lower one runs.
//!
//! Whoever runs is not interrupted the moment that another one of its family, its
//! VM, wakes up. Often both have just had the same timer tick: one that lost the
//! CPU in the middle of it would hold locks for which the other one then spins.

use alloc::vec::Vec;

use super::index_set::IndexSet;
use super::share::{LEVELS, Share};

/// Into so many parts a slice is divided, one of which whoever runs has left when
/// another one of its family wakes up that may interrupt it.
const GRACE: u64 = 8;

/// What a vCPU waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// To be turned on.
    Off,
    /// For an interrupt.
    Blocked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Resting(Rest),
    /// Since when, in counter ticks.
    Ready(u64),
    Running,
}

/// A vCPU's place in the queue of its CPU.
#[derive(Clone, Debug)]
struct Place {
    share: Share,
    family: Option<u16>,
    state: State,
    /// Virtual time that it has had.
    had: u64,
    /// Whether it has woken up or arrived since it last ran: it may interrupt a
    /// turn.
    is_fresh: bool,
    /// Among equals, the lowest is next.
    order: u64,
    /// Who has been on this CPU for longer has a lower one.
    arrived: u64,
}

impl Place {
    #[inline]
    fn charge(&mut self, ticks: u64) {
        self.had = self.had.wrapping_add(self.share.virtual_ticks(ticks));
    }
}

/// A turn that has begun and was not used up.
#[derive(Clone, Copy, Debug)]
struct Turn {
    index: usize,
    end: u64,
    /// Somebody waits for its end.
    is_awaited: bool,
}

/// What one vCPU takes along when it moves to another CPU.
#[derive(Debug)]
pub struct Moving<T> {
    /// What moves.
    pub item: T,
    share: Share,
    family: Option<u16>,
    rest: Option<Rest>,
    ready_since: u64,
    /// Virtual time that it has had, less that of those it left.
    ahead: i64,
}

/// The vCPUs (or whatever `T` is) of one CPU, and the order of their turns.
/// Allocates only in [`reserve`](Self::reserve).
#[derive(Debug)]
pub struct RunQueue<T> {
    items: Vec<(Place, T)>,
    /// The numbers of those that are ready.
    ready: IndexSet,
    /// By priority: the least virtual time that anybody who is ready has had.
    /// Never falls.
    floors: [u64; LEVELS],
    slice_ticks: u64,
    turn: Option<Turn>,
    next_order: u64,
}

/// Tells whether virtual time `one` is before `other`; it may wrap around.
const fn before(one: u64, other: u64) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

impl<T> Moving<T> {
    /// Introduces one that is off.
    #[must_use]
    pub const fn new(item: T, share: Share) -> Self {
        Self {
            item,
            share,
            family: None,
            rest: Some(Rest::Off),
            ready_since: 0,
            ahead: 0,
        }
    }

    /// Says that it has locks in common with all others of this number.
    #[must_use]
    pub fn of_family(self, number: u16) -> Self {
        Self {
            family: Some(number),
            ..self
        }
    }
}

impl<T> RunQueue<T> {
    /// Makes an empty queue. A turn lasts `slice_ticks` while others wait.
    #[must_use]
    pub const fn new(slice_ticks: u64) -> Self {
        Self {
            items: Vec::new(),
            ready: IndexSet::new(),
            floors: [0; LEVELS],
            slice_ticks,
            turn: None,
            next_order: 0,
        }
    }

    /// Makes room for `count` altogether.
    pub fn reserve(&mut self, count: usize) {
        self.items.reserve(count.saturating_sub(self.items.len()));
        self.ready.reserve(count);
    }

    /// Returns how many there are. They are numbered from 0 until one leaves.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Tells whether there is nobody.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|(_, item)| item)
    }

    /// Returns number `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.items.get(index).map(|(_, item)| item)
    }

    /// Returns number `index`.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.items.get_mut(index).map(|(_, item)| item)
    }

    /// Returns what number `index` waits for; `None` if it is ready or runs.
    #[must_use]
    pub fn rest(&self, index: usize) -> Option<Rest> {
        match self.items.get(index)?.0.state {
            State::Resting(rest) => Some(rest),
            State::Ready(_) | State::Running => None,
        }
    }

    /// Returns how many are ready and `may` run.
    #[must_use]
    pub fn ready_count(&self, may: impl Fn(&T) -> bool) -> usize {
        self.ready_to_run(&may).count()
    }

    /// Returns the numbers of those that are ready and `may` run.
    #[inline]
    fn ready_to_run(&self, may: &impl Fn(&T) -> bool) -> impl Iterator<Item = usize> {
        let may_run = move |index: &usize| self.get(*index).is_some_and(may);
        self.ready.iter().filter(may_run)
    }

    /// Takes one in that comes from another CPU or is new.
    pub fn arrive(&mut self, moving: Moving<T>) {
        let floor = self.floor(moving.share);
        let order = self.order();
        let place = Place {
            share: moving.share,
            family: moving.family,
            state: moving
                .rest
                .map_or(State::Ready(moving.ready_since), State::Resting),
            had: floor.wrapping_add_signed(moving.ahead),
            is_fresh: moving.rest.is_none(),
            order,
            arrived: order,
        };
        if moving.rest.is_none() {
            self.ready.insert(self.items.len());
        }
        self.items.push((place, moving.item));
    }

    /// Lets number `index` go to another CPU or for ever; the last one gets its
    /// number. Nobody leaves while it runs.
    pub fn leave(&mut self, index: usize) -> Option<Moving<T>> {
        let (place, _) = self.items.get(index)?;
        debug_assert_ne!(place.state, State::Running, "it is on the CPU");
        let last = self.items.len() - 1;
        self.turn = self.turn.filter(|turn| turn.index != index).map(|turn| {
            let index = if turn.index == last {
                index
            } else {
                turn.index
            };
            Turn { index, ..turn }
        });
        let last_is_ready = self.ready.contains(last);
        self.ready.set(index, last_is_ready && index != last);
        self.ready.remove(last);
        let (place, item) = self.items.swap_remove(index);
        let (rest, ready_since) = match place.state {
            State::Resting(rest) => (Some(rest), 0),
            State::Ready(since) => (None, since),
            State::Running => (None, 0),
        };
        let ahead = place.had.wrapping_sub(self.floor(place.share));
        Some(Moving {
            item,
            share: place.share,
            family: place.family,
            rest,
            ready_since,
            // More than this is as good as forgotten.
            ahead: ahead
                .cast_signed()
                .clamp(-self.credit(place.share), self.credit(place.share)),
        })
    }

    /// Makes number `index` ready at `now`, if it rests.
    pub fn wake(&mut self, index: usize, now: u64) {
        let order = self.order();
        let Some((place, _)) = self.items.get(index) else {
            return;
        };
        let credit = self.credit(place.share).cast_unsigned();
        let least = self.floor(place.share).wrapping_sub(credit);
        if let Some((place, _)) = self.items.get_mut(index)
            && let State::Resting(_) = place.state
        {
            place.state = State::Ready(now);
            place.is_fresh = true;
            place.order = order;
            if before(place.had, least) {
                place.had = least;
            }
            self.ready.insert(index);
        }
    }

    /// Takes number `index` off the CPU, or from its rest, to rest.
    pub fn put_to_rest(&mut self, index: usize, rest: Rest) {
        if let Some((place, _)) = self.items.get_mut(index) {
            place.state = State::Resting(rest);
            self.ready.remove(index);
        }
        if self.turn.is_some_and(|turn| turn.index == index) {
            self.turn = None;
        }
    }

    /// Chooses whose turn it is at `now` among those that `may` run, and takes it
    /// on the CPU. A turn that is not used up goes on, unless somebody who woke up
    /// a little while ago has more right to the CPU. Returns the number, and for how
    /// long it has been ready.
    #[inline]
    pub fn take_next(&mut self, now: u64, may: impl Fn(&T) -> bool) -> Option<(usize, u64)> {
        let before = self.turn.take();
        let mut ready = self.ready_to_run(&may);
        let mut best = ready.next()?;
        let mut is_awaited = false;
        for other in ready {
            is_awaited = true;
            if self.precedes(other, best) {
                best = other;
            }
        }
        let goes_on = before.and_then(|turn| self.goes_on(turn, best, now, may));
        let (index, end) = goes_on.unwrap_or((best, now.wrapping_add(self.slice_ticks)));
        let turn = Turn {
            index,
            end,
            is_awaited,
        };
        self.turn = Some(turn);
        self.ready.remove(index);
        let (place, _) = self.items.get_mut(index)?;
        let waited = match place.state {
            State::Ready(since) => now.saturating_sub(since),
            State::Resting(_) | State::Running => 0,
        };
        place.state = State::Running;
        place.is_fresh = false;
        let (mut share, mut had) = (place.share, place.had);
        if best != index {
            (share, had) = self
                .items
                .get(best)
                .map(|(best, _)| (best.share, best.had))?;
        }
        self.raise_floor(share, had);
        Some((index, waited))
    }

    /// Returns when the present turn ends, if somebody waited for that when it
    /// began.
    #[inline]
    #[must_use]
    pub fn turn_end(&self) -> Option<u64> {
        self.turn
            .filter(|turn| turn.is_awaited)
            .map(|turn| turn.end)
    }

    /// Returns whose turn goes on at `now` and until when, if `turn` does although
    /// `best` is ready.
    fn goes_on(
        &self,
        turn: Turn,
        best: usize,
        now: u64,
        may: impl Fn(&T) -> bool,
    ) -> Option<(usize, u64)> {
        let (place, item) = self.items.get(turn.index)?;
        let is_ready = matches!(place.state, State::Ready(_)) && may(item);
        let end = self.end_against(best, turn, now)?;
        (is_ready && before(now, end)).then_some((turn.index, end))
    }

    /// Charges number `index`, which runs, for `ticks` on the CPU.
    #[inline]
    pub fn charge(&mut self, index: usize, ticks: u64) {
        if let Some((place, _)) = self.items.get_mut(index) {
            place.charge(ticks);
        }
    }

    /// Takes number `index` off the CPU at `now`, where it has run for `ticks`; it is
    /// ready to go on. With `ends_turn` it gives up what is left of its turn.
    #[inline]
    pub fn put_back(&mut self, index: usize, now: u64, ticks: u64, ends_turn: bool) {
        let order = self.order();
        if let Some((place, _)) = self.items.get_mut(index) {
            place.charge(ticks);
            place.state = State::Ready(now);
            place.order = order;
            self.ready.insert(index);
        }
        if ends_turn {
            self.turn = None;
        }
    }

    /// Returns the numbers of those that are ready and `may` run, except for the one
    /// whose turn goes on, and since when each has been on this CPU, relative to the
    /// others.
    pub fn waiting(&self, may: impl Fn(&T) -> bool) -> impl Iterator<Item = (usize, u64)> {
        let in_turn = self.turn.map(|turn| turn.index);
        self.ready.iter().filter_map(move |index| {
            let (place, item) = self.items.get(index)?;
            (Some(index) != in_turn && may(item)).then_some((index, place.arrived))
        })
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    fn floor(&self, share: Share) -> u64 {
        self.floors.get(share.level()).copied().unwrap_or_default()
    }

    /// Of all that are ready, who has had least of its priority has had `had`.
    #[inline]
    fn raise_floor(&mut self, share: Share, had: u64) {
        if let Some(floor) = self.floors.get_mut(share.level())
            && before(*floor, had)
        {
            *floor = had;
        }
    }

    /// The virtual time of one slice.
    fn credit(&self, share: Share) -> i64 {
        share.virtual_ticks(self.slice_ticks).cast_signed()
    }

    /// Tells whether `one` comes before `other` when a turn begins.
    fn precedes(&self, one: usize, other: usize) -> bool {
        let (Some((one, _)), Some((other, _))) = (self.items.get(one), self.items.get(other))
        else {
            return false;
        };
        if one.share.level() != other.share.level() {
            return one.share.level() > other.share.level();
        }
        if one.had != other.had {
            return before(one.had, other.had);
        }
        one.order < other.order
    }

    /// Returns when `turn` ends if `best` is ready; `None` if at once.
    fn end_against(&self, best: usize, turn: Turn, now: u64) -> Option<u64> {
        if before(now, turn.end) && !self.interrupts(best, turn.index) {
            return Some(turn.end);
        }
        let ((best, _), (current, _)) = (self.items.get(best)?, self.items.get(turn.index)?);
        let is_kin = best.family.is_some() && best.family == current.family;
        match best.state {
            State::Ready(since)
                if best.is_fresh && is_kin && best.share.level() == current.share.level() =>
            {
                Some(since.wrapping_add(self.slice_ticks / GRACE))
            }
            _ => None,
        }
    }

    /// Tells whether `best` may interrupt the turn of `current`.
    fn interrupts(&self, best: usize, current: usize) -> bool {
        let (Some((best, _)), Some((current, _))) = (self.items.get(best), self.items.get(current))
        else {
            return false;
        };
        best.share.level() > current.share.level()
            || (best.is_fresh
                && best.share.level() == current.share.level()
                && before(best.had, current.had))
    }
}

#[cfg(test)]
mod tests;
