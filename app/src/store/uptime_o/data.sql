-- The sample rows that UptimeOAgent's users begin with: nine datacenters with an agent each, three schedules, four monitors that
-- are watched from everywhere. They ask public services on the internet.

INSERT INTO schedules (id, name, interval, include_response_body, thresholds_warning, thresholds_critical) VALUES
    (1, '60s GET', 60, TRUE, 300, 800),
    (2, '120s GET', 120, TRUE, 500, 1000),
    (3, '200s POST', 200, TRUE, 700, 1500);

INSERT INTO api_monitors (id, name, method, type, url, schedule_id, headers, body) VALUES
    (1, 'IPfy Public IP Info', 'GET', 'HTTPS', 'https://api.ipify.org?format=json', 1, NULL, NULL),
    (2, 'Official Joke API', 'GET', 'HTTPS', 'https://official-joke-api.appspot.com/random_joke', 1, NULL, NULL),
    (3, 'Realty US Search 60s POST', 'POST', 'HTTPS', 'https://realty-in-us.p.rapidapi.com/properties/v3/list', 3,
     jsonb_build_object('Content-Type', 'application/json', 'x-rapidapi-host', 'realty-in-us.p.rapidapi.com'),
     jsonb_build_object('limit', 200, 'offset', 0, 'postal_code', '90004',
         'status', jsonb_build_array('for_sale', 'ready_to_build'),
         'sort', jsonb_build_object('direction', 'desc', 'field', 'list_date'))),
    (4, 'Realty Auto-Complete', 'GET', 'HTTPS',
     'https://realty-in-us.p.rapidapi.com/locations/v2/auto-complete?input=new%20york&limit=10', 1,
     jsonb_build_object('x-rapidapi-host', 'realty-in-us.p.rapidapi.com', 'x-rapidapi-key', 'YOUR_RAPIDAPI_KEY'), NULL);

INSERT INTO regions (id, name, region_code, group_name) VALUES
    (1, 'US East', 'us-east-1', 'US'),
    (2, 'US West', 'us-west-1', 'US'),
    (3, 'Europe West', 'eu-west-2', 'Europe'),
    (4, 'Europe North', 'eu-north-1', 'Europe'),
    (5, 'Oceania', 'ap-southeast-2', 'Oceania');

INSERT INTO datacenters (id, code, name, region_id) VALUES
    (1, 'va', 'Virginia', 1),
    (2, 'ny', 'New York', 1),
    (3, 'rdn', 'Richardson', 1),
    (4, 'chi', 'Chicago', 1),
    (5, 'sf', 'San Francisco', 2),
    (6, 'lon', 'London', 3),
    (7, 'dam', 'Amsterdam', 3),
    (8, 'sto', 'Stockholm', 4),
    (9, 'syd', 'Sydney', 5);

INSERT INTO agents (id, name, datacenter_id) SELECT id, upper(code) || ' Agent', id FROM datacenters ORDER BY id;

INSERT INTO datacenter_monitors (datacenter_id, monitor_id) SELECT d.id, m.id FROM datacenters d CROSS JOIN api_monitors m;

-- Rows with ids of their own leave the sequences behind: the next row of yours would collide.
SELECT setval('schedules_id_seq', (SELECT max(id) FROM schedules));
SELECT setval('api_monitors_id_seq', (SELECT max(id) FROM api_monitors));
SELECT setval('regions_id_seq', (SELECT max(id) FROM regions));
SELECT setval('datacenters_id_seq', (SELECT max(id) FROM datacenters));
SELECT setval('agents_id_seq', (SELECT max(id) FROM agents));
