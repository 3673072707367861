//! Interior mutability under the GIL.

use pyo3::Python;
use std::cell::RefCell;

/// A value that only a thread holding the GIL touches.
///
/// The closure given to [`GilCell::with`] must not call into Python: that could let another thread
/// in, or come back here. If it does all the same, the borrow fails with a panic, which is an
/// exception in Python; it is never undefined behaviour.
pub struct GilCell<T>(RefCell<T>);

// SAFETY: every access needs a `Python` token, proof that this thread holds the GIL (the module is
// declared `gil_used`, so there is one), and so no two threads are in `with` at once. `T: Send`
// because they may be in it one after the other.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub fn new(value: T) -> GilCell<T> {
        GilCell(RefCell::new(value))
    }

    #[inline]
    pub fn with<R>(&self, _py: Python<'_>, touch: impl FnOnce(&mut T) -> R) -> R {
        touch(&mut self.0.borrow_mut())
    }
}
