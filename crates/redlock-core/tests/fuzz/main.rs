//! Whatever is passed in and whatever a server answers: nothing panics, and nothing is taken for what it
//! is not. `PROPTEST_CASES` is how many inputs each test invents.

mod parsers;
mod replies;
mod server;
