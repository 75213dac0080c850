package embedded

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// fill inserts n documents with an indexed field.
func fill(b *testing.B, c *mongo.Collection, n int) {
	b.Helper()
	_, err := c.Indexes().CreateOne(b.Context(), mongo.IndexModel{Keys: bson.D{{Key: "field", Value: 1}}})
	must(b, err)
	docs := make([]any, n)
	for i := range docs {
		docs[i] = bson.D{
			{Key: "_id", Value: fmt.Sprint("id", i)},
			{Key: "field", Value: fmt.Sprint("f", i)},
			{Key: "revision", Value: 1},
			{Key: "text", Value: "about as long as a record of the service is, give or take a few words of the tenant's own"},
		}
	}
	_, err = c.InsertMany(b.Context(), docs)
	must(b, err)
}

func find(b testing.TB, c *mongo.Collection, filter bson.D) {
	must(b, c.FindOne(context.Background(), filter).Err())
}

// BenchmarkFind compares filters. FerretDB hands a filter on _id alone to SQLite,
// and reads the whole collection for any other.
func BenchmarkFind(b *testing.B) {
	db := connect(b, start(b)).Database("bench")
	for _, n := range []int{10, 400, 5000} {
		c := db.Collection(fmt.Sprint("c", n))
		fill(b, c, n)
		last := n - 1
		for name, filter := range map[string]bson.D{
			"id":             {{Key: "_id", Value: fmt.Sprint("id", last)}},
			"id+revision":    {{Key: "_id", Value: fmt.Sprint("id", last)}, {Key: "revision", Value: 1}},
			"id in one":      {{Key: "_id", Value: bson.D{{Key: "$in", Value: bson.A{fmt.Sprint("id", last)}}}}},
			"indexed field":  {{Key: "field", Value: fmt.Sprint("f", last)}},
			"its first hit":  {{Key: "field", Value: "f0"}},
			"anything there": {},
		} {
			b.Run(fmt.Sprintf("docs=%d/%s", n, name), func(b *testing.B) {
				for b.Loop() {
					find(b, c, filter)
				}
			})
		}
	}
}

// BenchmarkWrite changes one document, as the service does.
func BenchmarkWrite(b *testing.B) {
	db := connect(b, start(b)).Database("bench")
	for _, n := range []int{10, 400, 5000} {
		c := db.Collection(fmt.Sprint("c", n))
		fill(b, c, n)
		set := bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}
		for name, filter := range map[string]bson.D{
			"id":          {{Key: "_id", Value: "id1"}},
			"id+revision": {{Key: "_id", Value: "id1"}, {Key: "revision", Value: 1}},
		} {
			b.Run(fmt.Sprintf("docs=%d/update by %s", n, name), func(b *testing.B) {
				for b.Loop() {
					_, err := c.UpdateOne(b.Context(), filter, set)
					must(b, err)
				}
			})
		}
		b.Run(fmt.Sprintf("docs=%d/insert and delete", n), func(b *testing.B) {
			for b.Loop() {
				_, err := c.InsertOne(b.Context(), bson.D{{Key: "_id", Value: "new"}})
				must(b, err)
				_, err = c.DeleteOne(b.Context(), bson.D{{Key: "_id", Value: "new"}})
				must(b, err)
			}
		})
	}
}

func BenchmarkCollections(b *testing.B) {
	db := connect(b, start(b)).Database("bench")
	made := 0
	for _, n := range []int{10, 400, 1000} {
		for ; made < n; made++ {
			must(b, db.CreateCollection(b.Context(), fmt.Sprint("c", made)))
		}
		for name, filter := range map[string]bson.D{
			"all":     {},
			"one":     {{Key: "name", Value: "c7"}},
			"in five": {{Key: "name", Value: bson.D{{Key: "$in", Value: bson.A{"c1", "c2", "c3", "c4", "c5"}}}}},
		} {
			b.Run(fmt.Sprintf("collections=%d/list %s", n, name), func(b *testing.B) {
				for b.Loop() {
					_, err := db.ListCollectionNames(b.Context(), filter)
					must(b, err)
				}
			})
		}
		for _, guarded := range []bool{false, true} {
			b.Run(fmt.Sprintf("collections=%d/create, rename, drop/guarded=%t", n, guarded), func(b *testing.B) {
				for b.Loop() {
					must(b, db.CreateCollection(b.Context(), "new"))
					var more []bson.E
					if guarded {
						specs, err := db.ListCollectionSpecifications(b.Context(), bson.D{{Key: "name", Value: "new"}})
						must(b, err)
						more = append(more, bson.E{Key: "collectionUUID", Value: *specs[0].UUID})
					}
					must(b, rename(b, db, "new", "moved", more...))
					must(b, db.RunCommand(b.Context(), append(bson.D{{Key: "drop", Value: "moved"}}, more...)).Err())
				}
			})
		}
		b.Run(fmt.Sprintf("collections=%d/find by id", n), func(b *testing.B) {
			_, err := db.Collection("c1").ReplaceOne(b.Context(), bson.D{{Key: "_id", Value: "x"}}, bson.D{}, options.Replace().SetUpsert(true))
			must(b, err)
			for b.Loop() {
				find(b, db.Collection("c1"), bson.D{{Key: "_id", Value: "x"}})
			}
		})
	}
	for name, command := range map[string]func(string) error{
		"create": func(name string) error { return db.CreateCollection(context.Background(), name) },
		"insert": func(name string) error {
			_, err := db.Collection(name).InsertOne(context.Background(), bson.D{})
			return err
		},
	} {
		b.Run(name+" a collection", func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				must(b, command(fmt.Sprint(name, i)))
			}
		})
	}
}

// BenchmarkDatabases creates and drops databases as tests do, beside databases
// that tests have left.
func BenchmarkDatabases(b *testing.B) {
	client := connect(b, start(b))
	use := func(name string) *mongo.Database {
		db := client.Database(name)
		for i := range 5 {
			_, err := db.Collection(fmt.Sprint("c", i)).InsertOne(b.Context(), bson.D{{Key: "_id", Value: "x"}})
			must(b, err)
		}
		return db
	}
	left := 0
	for _, n := range []int{0, 200} {
		for ; left < n; left++ {
			use(fmt.Sprint("left", left))
		}
		b.Run(fmt.Sprintf("left=%d/use and drop", n), func(b *testing.B) {
			for b.Loop() {
				must(b, use("bench").Drop(b.Context()))
			}
		})
		db := use(fmt.Sprint("bench", n))
		b.Run(fmt.Sprintf("left=%d/find by id", n), func(b *testing.B) {
			for b.Loop() {
				find(b, db.Collection("c1"), bson.D{{Key: "_id", Value: "x"}})
			}
		})
		b.Run(fmt.Sprintf("left=%d/update by id", n), func(b *testing.B) {
			for b.Loop() {
				_, err := db.Collection("c1").UpdateByID(b.Context(), "x", bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}})
				must(b, err)
			}
		})
	}
}

// BenchmarkFront compares the proxy with FerretDB's own socket.
func BenchmarkFront(b *testing.B) {
	s := start(b)
	for _, way := range []struct{ name, network, address string }{
		{"front", "tcp", s.Addr()},
		{"direct", "unix", s.socket},
	} {
		client, err := mongo.Connect(options.Client().ApplyURI(s.URL()).SetDialer(dialer{way.network, way.address}))
		must(b, err)
		b.Cleanup(func() { client.Disconnect(context.Background()) })
		c := client.Database("bench").Collection("c")
		_, err = c.ReplaceOne(b.Context(), bson.D{{Key: "_id", Value: "x"}}, bson.D{}, options.Replace().SetUpsert(true))
		must(b, err)
		for _, clients := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/clients=%d/find", way.name, clients), func(b *testing.B) {
				parallel(b, clients, func() {
					if err := c.FindOne(context.Background(), bson.D{{Key: "_id", Value: "x"}}).Err(); err != nil {
						b.Error(err)
					}
				})
			})
			b.Run(fmt.Sprintf("%s/clients=%d/update", way.name, clients), func(b *testing.B) {
				parallel(b, clients, func() {
					_, err := c.UpdateByID(context.Background(), "x", bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}})
					if err != nil {
						b.Error(err)
					}
				})
			})
		}
	}
}

// dialer connects to its own address, whatever the driver asks for.
type dialer struct{ network, address string }

func (d dialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, d.network, d.address)
}

// parallel calls act b.N times, from as many goroutines as there are clients.
func parallel(b *testing.B, clients int, act func()) {
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := i; j < b.N; j += clients {
				act()
			}
		})
	}
	wg.Wait()
}

// BenchmarkSQLite compares settings of SQLite and places of its files.
func BenchmarkSQLite(b *testing.B) {
	const normal, off = "synchronous(normal)", "synchronous(off)"
	for _, v := range []struct {
		name    string
		dir     string
		pragmas []string
	}{
		{"full", "", []string{"synchronous(full)"}},
		{"normal", "", []string{normal}},
		{"off", "", []string{off}},
		{"off, no journal", "", []string{off, "journal_mode(off)"}},
		{"off, journal in memory", "", []string{off, "journal_mode(memory)"}},
		{"off, 64 MB cache", "", []string{off, "cache_size(-65536)"}},
		{"off, mmap", "", []string{off, "mmap_size(268435456)"}},
		{"off, temp_store", "", []string{off, "temp_store(memory)"}},
		{"off, exclusive", "", []string{off, "locking_mode(exclusive)"}},
		{"normal, tmpfs", "/dev/shm", []string{normal}},
		{"off, tmpfs", "/dev/shm", []string{off}},
	} {
		b.Run(v.name, func(b *testing.B) {
			dir := b.TempDir()
			if v.dir != "" {
				var err error
				if dir, err = os.MkdirTemp(v.dir, "bench"); err != nil {
					b.Skip(err)
				}
				b.Cleanup(func() { os.RemoveAll(dir) })
			}
			s, err := Start(dir, "127.0.0.1:0", func(s *Server) { s.pragmas = v.pragmas })
			must(b, err)
			b.Cleanup(s.Close)
			db := connect(b, s).Database("bench")
			c := db.Collection("c")
			fill(b, c, 400)
			b.Run("find", func(b *testing.B) {
				for b.Loop() {
					find(b, c, bson.D{{Key: "field", Value: "f399"}})
				}
			})
			b.Run("insert", func(b *testing.B) {
				for b.Loop() {
					_, err := c.InsertOne(b.Context(), bson.D{})
					must(b, err)
				}
			})
			b.Run("create, drop collection", func(b *testing.B) {
				for b.Loop() {
					must(b, db.CreateCollection(b.Context(), "new"))
					must(b, db.Collection("new").Drop(b.Context()))
				}
			})
			b.Run("use, drop database", func(b *testing.B) {
				for b.Loop() {
					db := db.Client().Database("fresh")
					_, err := db.Collection("c").InsertOne(b.Context(), bson.D{})
					must(b, err)
					must(b, db.Drop(b.Context()))
				}
			})
		})
	}
}
