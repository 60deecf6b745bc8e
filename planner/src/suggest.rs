//! "Did you mean": the name that a user most likely meant.

/// The candidate nearest to `wanted`, if one is near enough to be a slip of the pen.
///
/// Damerau-Levenshtein distance without regard to case, at most a third of the longer name's length.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= wanted.len().max(candidate.len()).div_ceil(3))
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_mended() {
        assert_eq!(nearest("order", ["orders", "customer"]), Some("orders"));
        assert_eq!(nearest("CUSTOMRE", ["orders", "customer"]), Some("customer"));
    }

    #[test]
    fn a_different_word_is_not() {
        assert_eq!(nearest("lineitem", ["orders", "customer"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
