//! How often each reason ended a run of a vCPU, and what that cost.

use core::array;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Reason;

/// How many sizes of cost are told apart: powers of two, up to 2³¹ ticks.
pub const BUCKETS: usize = 32;
/// How many reasons there are.
const REASONS: usize = Reason::ALL.len();

/// The counters of one vCPU. Written by the CPU where it is, read by anybody.
///
/// One exit changes one cell: that of its reason and of its cost's size. The sizes
/// are in descending order: cell *n* has the costs with *n* leading zeros among
/// their 32 bits.
#[derive(Debug)]
#[repr(C)]
pub struct ExitCounters {
    /// Whether exits are to be traced as well; here, where every exit writes.
    is_traced: AtomicBool,
    cells: [[AtomicU64; BUCKETS]; REASONS],
}

impl Default for ExitCounters {
    fn default() -> Self {
        Self {
            is_traced: AtomicBool::new(false),
            cells: array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0))),
        }
    }
}

impl ExitCounters {
    /// Counts one exit that took `ticks`. Only for the CPU where the vCPU is.
    #[inline(always)]
    pub(super) fn count(&self, reason: Reason, ticks: u64) {
        // Nothing takes as long as what is cut off here: a minute or more.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let size = (ticks as u32 | 1).leading_zeros();
        let row = self.cells.get(reason as usize);
        if let Some(cell) = row.and_then(|row| row.get(size as usize)) {
            // Nobody else writes: no need for one operation that does both.
            cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Tells whether events of the vCPU are to be traced.
    #[inline(always)]
    pub(super) fn is_traced(&self) -> bool {
        self.is_traced.load(Ordering::Relaxed)
    }

    /// Has events of the vCPU traced, or not.
    pub(super) fn set_tracing(&self, on: bool) {
        // The rings are there before this is seen.
        self.is_traced.store(on, Ordering::Release);
    }

    /// Returns where the counters are: by reason, and then by size.
    pub(super) const fn cells(&self) -> *const AtomicU64 {
        self.cells.as_flattened().as_ptr()
    }

    /// Returns the histogram of each reason that there was.
    pub fn histograms(&self) -> impl Iterator<Item = (Reason, Histogram)> {
        let histogram = |row: &[AtomicU64; BUCKETS]| {
            // Counted from the smallest size on.
            let cell = |n: usize| row.iter().rev().nth(n).map_or(0, load);
            Histogram(array::from_fn(cell))
        };
        Reason::ALL
            .iter()
            .zip(&self.cells)
            .map(move |(reason, row)| (*reason, histogram(row)))
            .filter(|(_, histogram)| histogram.count() > 0)
    }

    /// Returns how many exits there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cells.as_flattened().iter().map(load).sum()
    }
}

fn load(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

/// How many exits cost how much, by powers of two: bucket *n* has those that took
/// 2ⁿ ticks or more and less than 2ⁿ⁺¹, the first one also those that took none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram(pub [u64; BUCKETS]);

impl Histogram {
    /// Returns how many exits there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns about what an exit cost on average, in ticks: as if each had cost
    /// what lies in the middle of its bucket.
    #[must_use]
    pub fn mean(&self) -> u64 {
        let middle = |n: usize| (1_u128 << n) + (1_u128 << n) / 2;
        let buckets = self.0.iter().enumerate();
        let sum: u128 = buckets
            .map(|(n, count)| u128::from(*count) * middle(n))
            .sum();
        let mean = sum.checked_div(self.count().into()).unwrap_or(0);
        u64::try_from(mean).unwrap_or(u64::MAX)
    }

    /// Returns the bucket that the median lies in.
    #[must_use]
    pub fn median(&self) -> Option<usize> {
        let half = self.count().div_ceil(2);
        let mut below = 0;
        self.0.iter().position(|count| {
            below += count;
            half > 0 && below >= half
        })
    }

    /// Returns the bucket of the most expensive one.
    #[must_use]
    pub fn max(&self) -> Option<usize> {
        self.0.iter().rposition(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn an_exit_is_counted_once_where_its_cost_belongs() {
        let counters = ExitCounters::default();
        for ticks in [0, 1, 2, 3, 4, 1000, 1023, 1024, 1 << 31] {
            counters.count(Reason::Hypercall, ticks);
        }
        counters.count(Reason::Sgi, 7);
        let histograms: Vec<_> = counters.histograms().collect();
        assert_eq!(counters.total(), 10);
        let [(Reason::Hypercall, hvc), (Reason::Sgi, sgi)] = histograms.as_slice() else {
            panic!("two reasons: {histograms:?}");
        };
        assert_eq!(hvc.0[..3], [2, 2, 1]);
        assert_eq!((hvc.0[9], hvc.0[10], hvc.0[31]), (2, 1, 1));
        assert_eq!((hvc.count(), hvc.max()), (9, Some(31)));
        assert_eq!((sgi.count(), sgi.median(), sgi.mean()), (1, Some(2), 6));
    }

    #[test]
    fn the_median_is_where_half_of_them_are_reached() {
        let with = |counts: &[u64]| {
            let mut buckets = [0; BUCKETS];
            buckets[..counts.len()].copy_from_slice(counts);
            Histogram(buckets)
        };
        assert_eq!(with(&[]).median(), None);
        assert_eq!((with(&[]).mean(), with(&[]).max()), (0, None));
        assert_eq!(with(&[0, 5]).median(), Some(1));
        assert_eq!(with(&[5, 4]).median(), Some(0));
        assert_eq!(with(&[4, 5]).median(), Some(1));
        assert_eq!(with(&[1, 0, 0, 1]).median(), Some(0));
        assert_eq!(with(&[1, 0, 0, 1]).max(), Some(3));
        assert_eq!(with(&[1, 1]).mean(), 2, "of 1 and 3");
    }
}
