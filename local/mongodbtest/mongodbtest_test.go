package mongodbtest

import (
	"os"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestServers(t *testing.T) {
	for name, test := range map[string]struct {
		db   Database
		want int
	}{
		"New":       {New(t), 21},
		"NewLegacy": {NewLegacy(t), 9},
	} {
		var hello struct{ MaxWireVersion int }
		err := test.db.Client.Database(test.db.Name).RunCommand(t.Context(), bson.D{{Key: "isMaster", Value: 1}}).Decode(&hello)
		if err != nil {
			t.Fatal(err)
		}
		if hello.MaxWireVersion != test.want && (os.Getenv("MONGO_URL") == "" || name == "NewLegacy") {
			t.Errorf("%s: maxWireVersion %d, want %d", name, hello.MaxWireVersion, test.want)
		}
	}
}
