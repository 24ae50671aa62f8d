//! `instruction_id`, `end_to_end_id` and `uetr`.

use super::Object;
use super::findings::{Findings, has_length, is_swift_x, text};
use crate::domain::{Code, References};

/// Keeps each reference that is well formed, whatever becomes of the event.
pub(super) fn read(body: &Object, uetr_required: bool, findings: &mut Findings) -> References {
    let instruction_id = reference(body, "instruction_id", Code::CH16, findings);
    let end_to_end_id = reference(body, "end_to_end_id", Code::FF08, findings);
    let uetr = match text(body, "uetr") {
        Ok(None) => {
            if uetr_required {
                findings.add(Code::CH21, "/uetr", "required by the scheme");
            }
            None
        }
        Ok(Some(uetr)) if is_uetr(uetr) => Some(uetr.into()),
        Ok(Some(_)) | Err(_) => {
            findings.add(Code::CH16, "/uetr", "must be a UUID of version 4 in lower case");
            None
        }
    };
    References { end_to_end_id, instruction_id, uetr }
}

fn reference(body: &Object, key: &'static str, code: Code, findings: &mut Findings) -> Option<Box<str>> {
    match text(body, key) {
        Ok(None) => None,
        Ok(Some(reference)) if is_reference(reference) => Some(reference.into()),
        Ok(Some(_)) | Err(_) => {
            let rule = "must be 1 to 35 characters of the SWIFT X set, without a leading, trailing or double slash";
            findings.add(code, format!("/{key}"), rule);
            None
        }
    }
}

fn is_reference(text: &str) -> bool {
    has_length(text, 35) && is_swift_x(text) && !text.starts_with('/') && !text.ends_with('/') && !text.contains("//")
}

fn is_uetr(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uetr_is_version_four_and_lower_case() {
        assert!(is_uetr("8a562c67-ca16-48ba-b074-65581be6f011"));
        for text in [
            "8A562C67-CA16-48BA-B074-65581BE6F011",
            "0199f2c4-7d1e-7b00-8a10-5b1f0c2d3e4f",
            "8a562c67-ca16-48ba-c074-65581be6f011",
            "8a562c67ca1648bab07465581be6f011",
            "{8a562c67-ca16-48ba-b074-65581be6f011}",
            "8a562c67-ca16-48ba-b074-65581be6f01g",
            "",
        ] {
            assert!(!is_uetr(text), "{text}");
        }
    }

    #[test]
    fn a_reference_keeps_to_the_x_set_and_the_slash_rule() {
        for text in ["NOTPROVIDED", "INV-2026/4711", "a", "A:B(c).,'+ ?", &"x".repeat(35)] {
            assert!(is_reference(text), "{text}");
        }
        for text in ["", "/a", "a/", "a//b", "/", "a#b", "é", "a\nb", "a_b", &"x".repeat(36)] {
            assert!(!is_reference(text), "{text}");
        }
    }
}
