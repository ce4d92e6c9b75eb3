//! "Did you mean": the known name that an unknown one was probably meant to be.

/// The closest of the names, if it is close enough to be a slip of the keys: a third of its letters at most.
pub(crate) fn nearest<'n>(unknown: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let far = unknown.chars().count() / 3;
    names
        .map(|name| (distance(unknown, name), name))
        .filter(|(distance, _)| *distance <= far.max(1))
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be put in, taken out or changed, letter case aside (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["brokerName", "brokerRole", "listenPort", "flushDiskType"];
        let near = |unknown| nearest(unknown, names.iter().copied());
        assert_eq!(near("rokerRole"), Some("brokerRole"));
        assert_eq!(near("listenport"), Some("listenPort"));
        assert_eq!(near("flushDiskTyp"), Some("flushDiskType"));
        assert_eq!(near("somethingElse"), None);
        assert_eq!(near("x"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
