//! Parts that the compiler does not look into.
//!
//! Whether a future may move between threads is found, for each async function anew, from all that its values are made
//! of. Plans and syntax trees hold each other in so many ways that this took minutes. A part that is told once to be
//! shareable is not looked into again.

use std::ops::Deref;

/// A value that threads share.
pub struct Opaque<T: 'static>(Box<dyn Holds<T>>);

trait Holds<T>: Send + Sync {
    fn held(&self) -> &T;
}

impl<T: Send + Sync> Holds<T> for T {
    fn held(&self) -> &T {
        self
    }
}

impl<T: Send + Sync> From<T> for Opaque<T> {
    fn from(value: T) -> Self {
        Self(Box::new(value))
    }
}

impl<T> Deref for Opaque<T> {
    type Target = T;

    fn deref(&self) -> &T {
        (*self.0).held()
    }
}
