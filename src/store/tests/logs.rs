use super::job_id;
use crate::store::logs::{KEPT_BYTES, LogStore};

/// All that is kept of a log, piece by piece, with where each begins.
async fn pieces(logs: &LogStore) -> Vec<(u64, Vec<u8>)> {
    let (mut from, mut pieces) = (0, Vec::new());
    while let Some(piece) = logs.read(job_id(1), 1, from).await.unwrap() {
        from = piece.start + piece.data.len() as u64;
        pieces.push((piece.start, piece.data));
    }
    pieces
}

async fn text(logs: &LogStore) -> String {
    pieces(logs).await.into_iter().map(|(_, data)| String::from_utf8(data).unwrap()).collect()
}

#[tokio::test]
async fn a_piece_sent_twice_is_stored_once_and_a_gap_is_refused() {
    let logs = LogStore::in_memory().unwrap();
    let append = |start: u64, data: &str| {
        let (logs, data) = (logs.clone(), data.as_bytes().to_vec());
        async move { logs.append(job_id(1), 1, start, data).await.unwrap() }
    };
    assert_eq!(append(0, "hello ").await, 6);
    assert_eq!(append(0, "hello ").await, 6);
    assert_eq!(append(3, "lo world").await, 11, "what overlaps is skipped");
    assert_eq!(append(20, "too far").await, 11, "the sender is told where to go on");
    assert_eq!(append(2, "llo").await, 11);
    assert_eq!(append(11, "").await, 11);
    assert_eq!(text(&logs).await, "hello world");
    assert_eq!(logs.end(job_id(1), 1).await.unwrap(), 11);
    assert_eq!(logs.end(job_id(1), 2).await.unwrap(), 0, "another attempt has a log of its own");
}

#[tokio::test]
async fn reading_can_begin_inside_a_piece() {
    let logs = LogStore::in_memory().unwrap();
    logs.append(job_id(1), 1, 0, b"0123456789".to_vec()).await.unwrap();
    let piece = logs.read(job_id(1), 1, 7).await.unwrap().unwrap();
    assert_eq!((piece.start, piece.data.as_slice()), (7, &b"789"[..]));
    assert!(logs.read(job_id(1), 1, 10).await.unwrap().is_none());
}

#[tokio::test]
async fn of_a_long_log_head_and_tail_are_kept() {
    const PIECE: u64 = 1024 * 1024;
    let logs = LogStore::in_memory().unwrap();
    for number in 0..40u8 {
        logs.append(job_id(1), 1, u64::from(number) * PIECE, vec![number; 1024 * 1024]).await.unwrap();
    }
    let pieces = pieces(&logs).await;
    let kept: Vec<u8> = pieces.iter().map(|(_, data)| data[0]).collect();
    assert_eq!(kept, (0..8).chain(32..40).collect::<Vec<u8>>());
    let total: u64 = pieces.iter().map(|(_, data)| data.len() as u64).sum();
    assert_eq!(total, KEPT_BYTES);
    assert_eq!(pieces[8].0, 32 * PIECE, "the gap shows in where the next piece begins");
    assert_eq!(logs.end(job_id(1), 1).await.unwrap(), 40 * PIECE);
    assert_eq!(logs.append(job_id(1), 1, 3 * PIECE, vec![0; 10]).await.unwrap(), 40 * PIECE);
}

#[tokio::test]
async fn logs_survive_a_restart_and_watchers_hear_of_appends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs.db");
    let logs = LogStore::open(&path).unwrap();
    let mut appended = logs.appended();
    logs.append(job_id(1), 1, 0, b"kept".to_vec()).await.unwrap();
    assert!(appended.has_changed().unwrap());
    drop((logs, appended.borrow_and_update()));
    assert_eq!(text(&LogStore::open(&path).unwrap()).await, "kept");
}

#[tokio::test]
async fn the_list_of_changed_paths_lies_beside_the_log_and_goes_with_it() {
    let logs = LogStore::in_memory().unwrap();
    let job = super::job_id(1);
    assert_eq!(logs.append_changes(job, 1, 0, b"A /a\n".to_vec()).await.unwrap(), 5);
    assert_eq!(logs.append_changes(job, 1, 0, b"A /a\n".to_vec()).await.unwrap(), 5, "sent twice, it is there once");
    assert_eq!(logs.append_changes(job, 1, 5, b"D /b\n".to_vec()).await.unwrap(), 10);
    assert_eq!(logs.append_changes(job, 1, 99, b"lost".to_vec()).await.unwrap(), 10);
    logs.append(job, 1, 0, b"said".to_vec()).await.unwrap();
    assert_eq!(logs.read_changes(job, 1, 0).await.unwrap().unwrap().data, b"A /a\n");
    assert_eq!(logs.read_changes(job, 1, 5).await.unwrap().unwrap().data, b"D /b\n");
    assert_eq!(logs.read(job, 1, 0).await.unwrap().unwrap().data, b"said");
    assert_eq!(logs.read_changes(job, 2, 0).await.unwrap(), None);
    logs.remove(vec![job]).await.unwrap();
    assert_eq!((logs.read_changes(job, 1, 0).await.unwrap(), logs.read(job, 1, 0).await.unwrap()), (None, None));
}
