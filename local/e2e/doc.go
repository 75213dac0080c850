// Package e2e tests the service from outside: its tests send HTTP requests to a
// running gateway and check the answers.
//
// By default the tests build command local, with the race detector if they run
// under it themselves, and start it. It has an embedded database in a temporary
// folder. With MONGO_URL set, it has a database of its own on that server, which
// is dropped at the end. Some tests restart the process, stop its database (which
// is embedded even if MONGO_URL is set), or kill it or its functions. At the end,
// the suite checks that the process has printed no password, no token and no
// connection string.
//
// With ORGSERVICE_URL set, the tests use the service at that URL instead, and
// those that need the process are left out. ORGSERVICE_GATEWAY names its gateway:
// "local", the default, or "sam" for sam local start-api. The table dialects
// holds the differences between the two. Each test creates its own organizations
// with random names, so the database need not be empty. The throttling must be
// wide enough:
//
//	go run ./local -parameter OpenThrottleRate=10000 -parameter OpenThrottleBurst=10000
//
// With ORGSERVICE_BESIDE set to a revision of Git, that version serves every second request on
// the same database, as during a gradual deployment or after going back.
package e2e
