//! Standard plugin `tag-filter`: serves every TAG subscription (`*`, `TagA`, `TagA || TagB`). Decides by consume-queue
//! entries alone, as RocketMQ does: by the hash of the tag. Two tags of one hash are told apart by the client, which
//! compares the text once more.

use waspmq_plugin_sdk::{
    Decides, Entry, EntryVerdict, Filter, Message, NoConfig, Refuse, Subscription, Verdict, plugin, tags_code,
};

/// Up to this many codes, comparing with all of them at once is faster than a search.
const FEW: usize = 8;

/// The plugin.
pub struct TagFilter;

/// What a subscription lets through.
#[derive(Debug, PartialEq, Eq)]
pub enum Tags {
    /// Every message, with or without a tag.
    All,
    /// Codes of a few tags; the first fills the places left over.
    Few([i32; FEW]),
    /// Codes of many tags, sorted, each once.
    Many(Vec<i32>),
}

impl Tags {
    fn parse(expression: &str) -> Result<Self, Refuse> {
        if expression.is_empty() || expression == "*" {
            return Ok(Self::All);
        }
        let mut codes = Vec::new();
        for tag in Split(Some(expression)) {
            let code = tags_code(tag) as i32;
            if let (false, Err(at)) = (tag.is_empty(), codes.binary_search(&code)) {
                codes.insert(at, code);
            }
        }
        let Some(first) = codes.first() else {
            return Err(Refuse::new("subString split error"));
        };
        let mut few = [*first; FEW];
        match few.get_mut(..codes.len()) {
            Some(places) => places.copy_from_slice(&codes),
            None => return Ok(Self::Many(codes)),
        }
        Ok(Self::Few(few))
    }

    #[inline]
    fn has(&self, tags_code: i64) -> bool {
        // Java compares the low half of what the queue holds.
        let code = tags_code as i32;
        match self {
            Self::All => true,
            // Without a branch, so that it takes two vector instructions and no loop, whose turns cost in Wasm.
            Self::Few(codes) => codes.iter().fold(false, |hit, wanted| hit | (*wanted == code)),
            Self::Many(codes) => codes.binary_search(&code).is_ok(),
        }
    }
}

/// Tags between `||`, trimmed as Java does: of everything up to the blank. By bytes, as `str::split` would double the
/// size of this plugin.
struct Split<'a>(Option<&'a str>);

impl<'a> Iterator for Split<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0?;
        let bars = rest.as_bytes().windows(2).position(|pair| pair == b"||");
        let (tag, rest) = match bars.and_then(|at| rest.split_at_checked(at)) {
            Some((tag, rest)) => (tag, rest.get(2..)),
            None => (rest, None),
        };
        self.0 = rest;
        Some(tag.trim_matches(|c| c <= ' '))
    }
}

impl Filter for TagFilter {
    type Config = NoConfig;
    type Prepared = Tags;

    fn new(_: NoConfig) -> Result<Self, Refuse> {
        Ok(Self)
    }

    fn prepare(&self, subscription: &Subscription<'_>) -> Result<Tags, Refuse> {
        Tags::parse(subscription.expression)
    }

    fn decides(&self, tags: &Tags) -> Decides {
        match tags {
            Tags::All => Decides::All,
            Tags::Few(_) | Tags::Many(_) => Decides::Entries,
        }
    }

    #[inline]
    fn keep_entry(&self, tags: &Tags, entry: &Entry<'_>) -> EntryVerdict {
        tags.has(entry.tags_code()).into()
    }

    fn keep(&self, tags: &Tags, message: &Message<'_>) -> Verdict {
        tags.has(message.tags_code()).into()
    }
}

plugin!(TagFilter, name = "tag-filter");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waspmq_plugin_sdk::harness::{Harness, message};

    use super::*;

    fn subscribed(expression: &str) -> Result<Harness<TagFilter>, Refuse> {
        Harness::new(NoConfig {})?.subscribe_as("TAG", expression)
    }

    fn keeps(expression: &str, tag: &str) -> bool {
        subscribed(expression).unwrap().keep(&message().tag(tag)) == Verdict::Keep
    }

    #[test]
    fn star_and_nothing_keep_everything_without_a_call() {
        for expression in ["*", ""] {
            assert_eq!(subscribed(expression).unwrap().decides(), Decides::All);
        }
    }

    #[test]
    fn lists_of_tags() {
        assert_eq!(subscribed("TagA").unwrap().decides(), Decides::Entries);
        assert!(keeps("TagA", "TagA"));
        assert!(!keeps("TagA", "TagB"));
        assert!(!keeps("TagA", ""), "no tag has code 0");
        assert!(keeps("TagA || TagB", "TagB"));
        assert!(keeps("TagA||TagB||", "TagB"));
        assert!(keeps(" \tTagA |||| TagB\n", "TagA"));
        assert!(!keeps("TagA | TagB", "TagA"), "a single bar is part of the tag");
        assert!(keeps("TagA | TagB", "TagA | TagB"));
        assert!(keeps("Aa", "BB"), "one hash: the client tells them apart");
        assert!(keeps("polygenelubricants", "polygenelubricants"), "a code below 0");
        assert!(!keeps("* || TagB", "TagA"), "`*` in a list is a tag of that name");
    }

    #[test]
    fn separators_alone_are_an_error() {
        for expression in ["||", "||||", " || "] {
            assert_eq!(subscribed(expression).err(), Some(Refuse::new("subString split error")), "{expression:?}");
        }
    }

    #[test]
    fn only_the_low_half_of_the_code_counts() {
        let tags = Tags::parse("TagA").unwrap();
        assert!(tags.has(tags_code("TagA") | 7 << 40));
        assert!(!tags.has(tags_code("TagA") + 1));
    }

    proptest! {
        /// A batch decides as one tag after the other, whatever the number of tags and of messages.
        #[test]
        fn batches_equal_naive(tags in prop::collection::vec("[a-e]{1,2}", 1..40), sent in prop::collection::vec("[a-e]{0,2}", 0..100)) {
            let filter = subscribed(&tags.join(" || ")).unwrap();
            let messages: Vec<_> = sent.iter().map(|tag| message().tag(tag)).collect();
            let naive = |tag: &String| tags.iter().any(|wanted| tags_code(wanted) == tags_code(tag)).into();
            prop_assert_eq!(filter.keep_all(&messages), sent.iter().map(naive).collect::<Vec<Verdict>>());
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "(?s).*") {
            let _ = Tags::parse(&text);
        }
    }
}
