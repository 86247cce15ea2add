//! Epochs, names of destinations, checksums.

use super::*;

#[test]
fn epochs_rise_with_the_counter_and_across_starts_and_fit_into_53_bits() {
    assert!(Epoch::new(1, 5) < Epoch::new(1, 6));
    assert!(Epoch::new(1, u32::MAX) < Epoch::new(2, 0));
    assert!(Epoch::new(Epoch::MAX_START, u32::MAX).as_u64() < 1 << 53);
    assert_eq!(Epoch::new(7, 9).start(), 7);
}

#[test]
fn an_id_that_ends_in_a_number_is_as_old_as_before_and_of_the_same_version() {
    let id = JobId(Uuid::from_u128(0x0199_d1b2_7c3e_7a10_8f00_4f6b_1e2d_3c4b));
    assert_eq!(id.ending_in(0xab).to_string(), "0199d1b2-7c3e-7a10-8f00-4f00000000ab");
    assert_eq!(id.ending_in((1 << 40) - 1).to_string(), "0199d1b2-7c3e-7a10-8f00-4fffffffffff");
    assert_eq!(id.ending_in(1 << 40), id, "a number that does not fit is left out");
    assert_eq!(id.ending_in(0xab).number(), 0xab);
}

#[test]
fn a_destination_name_is_short_and_plain() {
    for good in ["api2", "a", "Team.system_op-1", &"x".repeat(64)] {
        assert!(good.parse::<DestinationName>().is_ok(), "{good}");
    }
    for bad in ["", "-a", ".a", "a b", "ä", "a/b", &"x".repeat(65)] {
        assert!(bad.parse::<DestinationName>().is_err(), "{bad}");
    }
}

#[test]
fn the_checksum_tells_apart_whatever_may_rot() {
    let id = JobId(Uuid::from_u128(7));
    let name: DestinationName = "api2".parse().unwrap();
    let at = Timestamp::from_millis(1);
    let request = |body: &'static str, kind: Option<&str>| Request {
        content_type: kind.map(str::to_owned),
        body: Bytes::from_static(body.as_bytes()),
        ..Request::default()
    };
    let sum = |key: Option<&str>, request: &Request| Job::checksum_of(id, &name, at, key, request);
    let base = sum(None, &request("a", None));
    assert_eq!(base, sum(None, &request("a", None)));
    assert_ne!(base, sum(None, &request("b", None)));
    assert_ne!(base, sum(Some(""), &request("a", None)));
    assert_ne!(base, sum(None, &request("a", Some(""))));
    assert_ne!(sum(Some("x"), &request("a", None)), sum(None, &request("a", Some("x"))));
}
