//! Settings that take one of a few words: one list each, for the file, the flags, the schema and the messages.

use std::str::FromStr;

use crate::error::nearest;

/// A setting that takes one of a few words.
pub trait Words: Copy + FromStr<Err = String> + 'static {
    /// The words, in the order in which they are shown.
    const WORDS: &'static [&'static str];
}

/// An enum of words: how each is written, read and shown.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word that stands for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::words::Words for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::words::one_of(text, <Self as $crate::words::Words>::WORDS)),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// What is said of a text that is none of the words.
pub fn one_of(text: &str, words: &[&str]) -> String {
    let hint = nearest(text, words).map(|w| format!("; did you mean {w:?}?")).unwrap_or_default();
    format!("{text:?} is not one of {}{hint}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::window::WindowBy;

    #[test]
    fn what_is_no_word_is_told_which_there_are() {
        assert_eq!("arrival".parse::<WindowBy>(), Ok(WindowBy::Arrival));
        assert_eq!("arival".parse::<WindowBy>().unwrap_err(), "\"arival\" is not one of record-time, arrival; did you mean \"arrival\"?");
        assert_eq!("x".parse::<WindowBy>().unwrap_err(), "\"x\" is not one of record-time, arrival");
        assert_eq!(WindowBy::RecordTime.to_string(), "record-time");
    }
}
