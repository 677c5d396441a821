-- The switch: its row, the lock on its manager connection, and how far its files have been read.

-- name: register$
-- Workers register at the same time: DO UPDATE waits for the other one's row and returns it.
INSERT INTO switch (name) VALUES (:name) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING switch_id;

-- name: try_own$
-- Exactly one worker owns a switch; the lock goes with the connection that took it.
SELECT pg_try_advisory_lock(hashtextextended('callbridge switch ' || :name, 0));

-- name: seen!
UPDATE switch SET seen_at = greatest(seen_at, :at) WHERE switch_id = :switch_id;

-- name: last_seen$
SELECT seen_at FROM switch WHERE switch_id = :switch_id;

-- name: file_position^
SELECT inode, position FROM switch_file WHERE switch_id = :switch_id AND name = :name;

-- name: move_file!
INSERT INTO switch_file (switch_id, name, inode, position) VALUES (:switch_id, :name, :inode, :position)
ON CONFLICT (switch_id, name) DO UPDATE SET inode = excluded.inode, position = excluded.position;

-- name: partitions$
SELECT partition_ensure_v1(:months);
