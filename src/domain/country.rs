//! ISO 3166-1 alpha-2: the 249 officially assigned codes.

/// The second letters of the assigned codes, by first letter from A to Z.
const SECOND_LETTERS: [&str; 26] = [
    "DEFGILMOQRSTUWXZ",        // A
    "ABDEFGHIJLMNOQRSTVWYZ",   // B
    "ACDFGHIKLMNORUVWXYZ",     // C
    "EJKMOZ",                  // D
    "CEGHRST",                 // E
    "IJKMOR",                  // F
    "ABDEFGHILMNPQRSTUWY",     // G
    "KMNRTU",                  // H
    "DELMNOQRST",              // I
    "EMOP",                    // J
    "EGHIMNPRWYZ",             // K
    "ABCIKRSTUVY",             // L
    "ACDEFGHKLMNOPQRSTUVWXYZ", // M
    "ACEFGILOPRUZ",            // N
    "M",                       // O
    "AEFGHKLMNRSTWY",          // P
    "A",                       // Q
    "EOSUW",                   // R
    "ABCDEGHIJKLMNORSTVXYZ",   // S
    "CDFGHJKLMNORTVWZ",        // T
    "AGMSYZ",                  // U
    "ACEGINU",                 // V
    "FS",                      // W
    "",                        // X
    "ET",                      // Y
    "AMW",                     // Z
];

/// Whether `code` is an assigned country code, upper case. `UK` and `XK` are not.
#[must_use]
pub(crate) fn is_country(code: &str) -> bool {
    let &[first, second] = code.as_bytes() else { return false };
    first
        .checked_sub(b'A')
        .and_then(|row| SECOND_LETTERS.get(usize::from(row)))
        .is_some_and(|row| row.as_bytes().contains(&second))
}

/// Whether `code` may stand for a country in a BIC or an IBAN: an assigned code, or `XK`, which both registries use
/// for Kosovo.
#[must_use]
pub(crate) fn is_country_of_registry(code: &str) -> bool {
    code == "XK" || is_country(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_249_assigned_codes_are_known_in_order() {
        assert_eq!(SECOND_LETTERS.iter().map(|row| row.len()).sum::<usize>(), 249);
        for row in SECOND_LETTERS {
            assert!(row.as_bytes().is_sorted());
        }
    }

    #[test]
    fn look_alikes_are_not_countries() {
        for code in ["DE", "GB", "AX", "ZW"] {
            assert!(is_country(code) && is_country_of_registry(code), "{code}");
        }
        for code in ["UK", "EU", "XX", "AN", "de", "D", "DEU", "", "Ä", "A\u{0}", "[A"] {
            assert!(!is_country(code) && !is_country_of_registry(code), "{code}");
        }
        assert!(!is_country("XK") && is_country_of_registry("XK"));
    }
}
