-- A database of many images, written by `benchmarks.million`. ID[thing, number] is an id made of a number,
-- ROWS[count] a table of the numbers n = 1 … count; names are filled in. The largest dataset is one in the
-- middle: lists must step over what comes before it.

INSERT INTO datasets (id, workspace, name, created_at, options, review_revision)
SELECT ID[dataset, n], 'default', 'line ' || n, $at, '{}', 0 FROM ROWS[$datasets];

INSERT INTO images (id, dataset_id, name, sha256, bytes, width, height, mode, format, created_at, review,
                    review_revision)
SELECT ID[image, n], ID[dataset, CASE WHEN n <= $most THEN $largest ELSE n % $datasets + 1 END],
       'cam/' || n || '.png', substr(replace(CAST(ID[image, n] AS text) || CAST(ID[receipt, n] AS text), '-', ''), 1, 64),
       40000, 300, 300, 'L', 'PNG', $at,
       CASE WHEN n % 5000 = 0 THEN 'reject' WHEN n % 5000 = 1 THEN 'keep' END, 0
FROM ROWS[$images];

INSERT INTO receipts (id, dataset_id, batch_id, name, sha256, status, created_at)
SELECT ID[receipt, n], ID[dataset, CASE WHEN n <= $most THEN $largest ELSE n % $datasets + 1 END], ID[batch, 1],
       'cam/' || n || '.png', NULL, CASE WHEN n % 5000 = 2 THEN 'rejected' ELSE 'accepted' END, $at
FROM ROWS[$images];

INSERT INTO jobs (id, dataset_id, kind, state, params, progress, attempt, created_at, updated_at)
SELECT ID[job, n], ID[dataset, n % $datasets + 1], 'purify',
       CASE WHEN n % 500 = 0 THEN 'failed' ELSE 'succeeded' END, '{}', 1.0, 1, $at, $at
FROM ROWS[$jobs];

INSERT INTO purifications (id, dataset_id, job_id, version, created_at, options, backbone, contamination, cut,
                           counts, heat_scale, stage_seconds, review_revision)
SELECT ID[version, n], ID[dataset, $largest], ID[job, n], n, $at, '{}', '{"name": "lite"}',
       '{"estimate": 0.01, "interval": [0.0, 0.1], "evidence": "weak"}',
       '{"score": 0.5, "rule": "cost", "uncertain": false}',
       '{"clean": 1, "suspect": 1, "needs_review": 1, "rejected_files": 0}', '{"min": 0.0, "max": 1.0}', '{}', 0
FROM ROWS[1];

INSERT INTO purified_items (purification_id, rank, image_id, score, p_anomalous, interval_lo, interval_hi, verdict,
                            needs_review, confidence, signals, near_duplicates, cluster, explanation, heat_rows,
                            heat_cols, heat)
SELECT ID[version, 1], n, ID[image, n * 7919 % $most + 1], 1.0 - n * 1.0 / $most, 0.5, 0.4, 0.6,
       CASE WHEN n * 100 <= $most THEN 'suspect' ELSE 'clean' END, n % 1000 = 0, (n * 7919 % 100003) / 100003.0,
       '{"llbnad": 0.5, "funad": 0.4}', '[]', CASE WHEN n * 100 <= $most THEN n % 50 END, $explanation, 16, 16, $heat
FROM ROWS[$most];
