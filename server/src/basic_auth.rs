//! Names and passwords in headers, by HTTP's scheme `Basic` ([RFC 7617](https://www.rfc-editor.org/rfc/rfc7617)).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Drivers in Go leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The name and the password of a header `authorization`; `None` if it is of another scheme or cannot be read.
pub fn basic_credentials(authorization: &str) -> Option<(String, String)> {
    let decoded = BASE64.decode(after_scheme(authorization, "basic")?).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// What follows the scheme, if it is this one.
pub fn after_scheme<'a>(authorization: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = authorization.trim().split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_have_colons() {
        let wanted = Some(("ada".to_owned(), "secret:with colon".to_owned()));
        let header = format!("basic  {}", BASE64.encode("ada:secret:with colon"));
        assert_eq!(basic_credentials(&header), wanted);
        assert_eq!(basic_credentials(header.trim_end_matches('=')), wanted);
        for wrong in ["Basic", "Basic ?", "Bearer YWRhOng=", &format!("Basic {}", BASE64.encode("nobody"))] {
            assert_eq!(basic_credentials(wrong), None, "{wrong}");
        }
    }
}
