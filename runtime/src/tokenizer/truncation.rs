//! Which tokens stay where there are more than the model takes.

use crate::error::{Error, ErrorCode};

/// What to do with a text, or a pair of texts, that has more tokens than the model takes.
///
/// Texts are cut on the right, and the result says so. The strategies are those of Hugging
/// Face's `tokenizers`, and keep the same tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truncation {
    /// Cut the longer text of a pair, and both once they are equally long.
    #[default]
    LongestFirst,
    /// Cut the first text only. [`ErrorCode::TextTooLong`] if none of it would be left.
    OnlyFirst,
    /// Cut the second text only. [`ErrorCode::TextTooLong`] if none of it would be left, or if
    /// there is no second text.
    OnlySecond,
    /// Cut nothing: [`ErrorCode::TextTooLong`].
    Refuse,
}

impl Truncation {
    /// How many tokens of each text stay, of `room` in all; `None` if it may not be cut so.
    pub(super) fn keep(
        self,
        first: usize,
        second: Option<usize>,
        room: usize,
    ) -> Option<(usize, usize)> {
        let other = second.unwrap_or(0);
        if first + other <= room {
            return Some((first, other));
        }
        match self {
            Self::Refuse => None,
            // Without any room, `tokenizers` empties both texts, whatever the strategy.
            _ if room == 0 => Some((0, 0)),
            Self::LongestFirst => Some(longest_first(first, other, room)),
            Self::OnlyFirst => (other < room).then(|| (room - other, other)),
            Self::OnlySecond => {
                (second.is_some() && first < room).then(|| (first, room.saturating_sub(first)))
            }
        }
    }
}

/// The longer text gives way until both are equal, then both do. An odd place is the longer's,
/// or else the second's. There is no room for all.
fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    let shorter = first.min(second);
    let (shorter, longer) = if shorter <= room / 2 {
        (shorter, room - shorter)
    } else {
        (room / 2, room - room / 2)
    };
    if first > second {
        (longer, shorter)
    } else {
        (shorter, longer)
    }
}

/// Why a text could not be cut to what the model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    /// Tokens of the first text, without special ones.
    pub(super) first: usize,
    /// Tokens of the second text, if there is one.
    pub(super) second: Option<usize>,
    /// Tokens with the special ones.
    pub(super) tokens: usize,
    /// Tokens that the model takes.
    pub(super) max_tokens: usize,
    pub(super) truncation: Truncation,
}

impl TooLong {
    /// As an error about the input of this number.
    pub(crate) fn into_error(self, number: usize) -> Error {
        let Self {
            first,
            second,
            tokens,
            max_tokens,
            truncation,
        } = self;
        let mut message =
            format!("text {number}: has {tokens} tokens, the model takes {max_tokens}");
        let special = tokens - first - second.unwrap_or(0);
        message += &match (truncation, second) {
            (Truncation::OnlyFirst, Some(second)) => format!(
                ", and of the first text none would be left: its second has {second}, and \
                 {special} are special; shorten the second, or let the longest be cut first"
            ),
            (Truncation::OnlySecond, Some(_)) => format!(
                ", and of the second text none would be left: its first has {first}, and \
                 {special} are special; shorten the first, or let the longest be cut first"
            ),
            (Truncation::OnlySecond, None) => {
                ", and there is no second text to cut; shorten it, or let the longest be cut first"
                    .to_owned()
            }
            _ => "; shorten it or let it be truncated".to_owned(),
        };
        Error::new(ErrorCode::TextTooLong, message)
    }
}

#[cfg(test)]
mod tests {
    use super::Truncation::*;
    use super::*;

    #[test]
    fn the_longer_text_gives_way_first() {
        let keep = |first, second, room| LongestFirst.keep(first, Some(second), room).unwrap();
        assert_eq!(keep(3, 4, 7), (3, 4));
        assert_eq!(keep(3, 9, 10), (3, 7));
        assert_eq!(keep(9, 3, 10), (7, 3));
        assert_eq!(keep(9, 8, 7), (4, 3));
        assert_eq!(keep(8, 8, 7), (3, 4));
        assert_eq!(keep(1, 1, 0), (0, 0));
        assert_eq!(LongestFirst.keep(9, None, 7), Some((7, 0)));
    }

    #[test]
    fn one_text_alone_gives_way() {
        assert_eq!(OnlyFirst.keep(9, Some(3), 7), Some((4, 3)));
        assert_eq!(OnlyFirst.keep(1, Some(6), 7), Some((1, 6)));
        assert_eq!(OnlyFirst.keep(2, Some(6), 7), Some((1, 6)));
        assert_eq!(OnlyFirst.keep(1, Some(7), 7), None);
        assert_eq!(OnlyFirst.keep(0, Some(7), 7), Some((0, 7)));
        assert_eq!(OnlyFirst.keep(9, None, 7), Some((7, 0)));
        assert_eq!(OnlySecond.keep(3, Some(9), 7), Some((3, 4)));
        assert_eq!(OnlySecond.keep(7, Some(1), 7), None);
        assert_eq!(OnlySecond.keep(7, None, 7), Some((7, 0)));
        assert_eq!(OnlySecond.keep(8, None, 7), None);
    }

    #[test]
    fn without_room_all_is_cut_but_not_where_that_is_refused() {
        for truncation in [LongestFirst, OnlyFirst, OnlySecond] {
            assert_eq!(truncation.keep(1, Some(1), 0), Some((0, 0)));
            assert_eq!(truncation.keep(1, None, 0), Some((0, 0)));
        }
        assert_eq!(Refuse.keep(1, None, 0), None);
        assert_eq!(Refuse.keep(3, Some(4), 7), Some((3, 4)));
        assert_eq!(Refuse.keep(3, Some(4), 6), None);
    }

    #[test]
    fn messages_name_the_text_its_tokens_and_what_to_do() {
        let message = |truncation, first, second: Option<usize>| {
            let too_long = TooLong {
                first,
                second,
                tokens: first + second.map_or(2, |second| second + 3),
                max_tokens: 8,
                truncation,
            };
            let error = too_long.into_error(4);
            assert_eq!(error.code(), ErrorCode::TextTooLong);
            error.to_string()
        };
        for (message, words) in [
            (
                message(Refuse, 9, None),
                &["has 11 tokens", "takes 8", "shorten it"][..],
            ),
            (
                message(OnlyFirst, 2, Some(7)),
                &["has 12", "takes 8", "second has 7", "3 are special"],
            ),
            (
                message(OnlySecond, 6, Some(2)),
                &["has 11", "takes 8", "first has 6", "shorten the first"],
            ),
            (
                message(OnlySecond, 9, None),
                &["has 11", "takes 8", "no second text"],
            ),
        ] {
            assert!(message.starts_with("text 4: "), "{message}");
            for word in words {
                assert!(message.contains(word), "{message:?} lacks {word:?}");
            }
        }
    }
}
