//! The suite that every [`Sequence`] and every [`Store`] must pass.
//!
//! Each function takes `open`, which gives another handle to the same sequence, as another
//! worker or another replica would have. They panic with what went wrong.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{Block, Count, Error, MAX_NUMBER, Sequence, Store};

/// Checks a new sequence: the first number is 1, and the next follow without a gap.
pub async fn check_new<S: Sequence>(open: impl AsyncFn() -> S) {
    let sequence = open().await;
    assert_eq!(
        reserve(&sequence, 1).await.first(),
        1,
        "the first number must be 1"
    );
    assert_eq!(
        reserve(&sequence, 3).await.first(),
        2,
        "no gap while nothing fails"
    );
    assert_eq!(
        reserve(&sequence, 1).await.first(),
        5,
        "a block takes all its numbers"
    );
}

/// Checks a sequence in any state.
pub async fn check<S: Sequence>(open: impl AsyncFn() -> S) {
    a_block_has_the_size_asked_for(&open).await;
    handles_never_share_a_number(&open).await;
    an_answer_orders_later_requests_on_every_handle(&open).await;
    an_abandoned_reservation_repeats_nothing(&open).await;
}

/// Checks a store, and leaves its sequence exhausted.
pub async fn check_store<S: Store>(open: impl AsyncFn() -> S) {
    check(&open).await;
    raising_only_ever_moves_forward(&open).await;
    the_end_is_exact_and_final(&open).await;
}

async fn reserve(sequence: &impl Sequence, count: u32) -> Block {
    let count = Count::new(count).expect("the suite asks for valid counts");
    match sequence.reserve(count).await {
        Ok(block) => block,
        Err(error) => panic!("a reservation failed: {}", error.chain()),
    }
}

async fn a_block_has_the_size_asked_for<S: Sequence>(open: &impl AsyncFn() -> S) {
    let sequence = open().await;
    let mut last = 0;
    for count in [1, 2, 1000, Count::MAX.get(), 1] {
        let block = reserve(&sequence, count).await;
        assert_eq!(block.count().get(), count);
        assert!(block.first() > last, "{} came after {last}", block.first());
        last = block.last();
    }
}

async fn handles_never_share_a_number<S: Sequence>(open: &impl AsyncFn() -> S) {
    const HANDLES: u32 = 8;
    const ROUNDS: u32 = 50;
    let handles = join_all((0..HANDLES).map(|_| open())).await;
    let blocks = join_all(handles.iter().zip(1_u32..).map(async |(handle, count)| {
        let mut mine = Vec::new();
        for _ in 0..ROUNDS {
            mine.push(reserve(handle, count).await);
        }
        mine
    }))
    .await;

    for mine in &blocks {
        let in_order = mine.windows(2).all(|pair| pair[0].last() < pair[1].first());
        assert!(in_order, "one handle's numbers must grow: {mine:?}");
    }
    let mut seen = BTreeSet::new();
    for number in blocks.iter().flatten().flat_map(|b| b.first()..=b.last()) {
        assert!(seen.insert(number), "{number} was handed out twice");
    }
}

async fn an_answer_orders_later_requests_on_every_handle<S: Sequence>(open: &impl AsyncFn() -> S) {
    let (one, two) = (open().await, open().await);
    let mut last = 0;
    for _ in 0..50 {
        for handle in [&one, &two] {
            let block = reserve(handle, 2).await;
            assert!(block.first() > last, "{} came after {last}", block.first());
            last = block.last();
        }
    }
}

/// An abandoned call may or may not take its numbers, but its late reply must not become the
/// answer to the next call.
async fn an_abandoned_reservation_repeats_nothing<S: Sequence>(open: &impl AsyncFn() -> S) {
    let (one, two) = (open().await, open().await);
    let seven = Count::new(7).expect("a valid count");
    for microseconds in [0, 1, 10, 50, 100, 300, 1000] {
        let abandoned = timeout(Duration::from_micros(microseconds), one.reserve(seven)).await;
        let floor = reserve(&two, 1).await.last();
        if let Ok(Ok(block)) = abandoned {
            assert!(block.last() < floor);
        }
        let next = reserve(&one, 7).await;
        assert!(next.first() > floor, "{} came after {floor}", next.first());
    }
}

async fn raising_only_ever_moves_forward<S: Store>(open: &impl AsyncFn() -> S) {
    let (one, two) = (open().await, open().await);
    let before = reserve(&one, 1).await.last();
    raise(&one, before + 1_000_000).await;
    raise(&two, 5).await;
    raise(&two, 0).await;
    let after = reserve(&two, 1).await.first();
    assert_eq!(
        after,
        before + 1_000_001,
        "raised by exactly as much as asked"
    );
}

async fn raise(store: &impl Store, floor: u64) {
    if let Err(error) = store.raise_above(floor).await {
        panic!("the store could not be raised: {}", error.chain());
    }
}

async fn the_end_is_exact_and_final<S: Store>(open: &impl AsyncFn() -> S) {
    let store = open().await;
    raise(&store, MAX_NUMBER - 3).await;
    exhausted(&store, 4).await;
    exhausted(&store, Count::MAX.get()).await;
    let block = reserve(&store, 2).await;
    assert_eq!(
        block.first(),
        MAX_NUMBER - 2,
        "a refused block takes nothing"
    );
    exhausted(&store, 2).await;
    assert_eq!(reserve(&store, 1).await.last(), MAX_NUMBER);
    for count in [1, 1, Count::MAX.get()] {
        exhausted(&store, count).await;
    }
    raise(&store, MAX_NUMBER).await;
    exhausted(&open().await, 1).await;
    assert!(
        store.check().await.is_ok(),
        "a sequence at its end still works"
    );
}

async fn exhausted(store: &impl Store, count: u32) {
    let count = Count::new(count).expect("a valid count");
    match store.reserve(count).await {
        Err(Error::Exhausted) => {}
        Err(error) => panic!("expected the end of the sequence, got {}", error.chain()),
        Ok(block) => panic!("expected the end of the sequence, got {block:?}"),
    }
}
