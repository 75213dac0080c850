package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/crypto/bcrypt"

	"orgservice/local/mongodbtest"
	"orgservice/shared/api"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// BenchmarkGet tells how much of an event of get is the service's own part: the allocations and
// the time of the event, of the call of the store in it, and of the bare call of the driver. With
// -cpuprofile and -memprofile it says where.
func BenchmarkGet(b *testing.B) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(io.Discard, nil)))
	db := mongodbtest.NewEmbedded(b)
	s := &org.Service{Store: db.Open(b), Database: db.Name, Passwords: auth.Passwords{Cost: bcrypt.MinCost}}
	if _, err := s.Create(b.Context(), org.CreateRequest{OrganizationName: "Warm", Email: "admin@warm.test", Password: "correct horse"}); err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile("../../events/get.json")
	if err != nil {
		b.Fatal(err)
	}
	var event events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(data, &event); err != nil {
		b.Fatal(err)
	}
	event.QueryStringParameters, event.RawQueryString = map[string]string{"organization_name": "Warm"}, "organization_name=Warm"
	run := api.Lambda(api.Get(s))
	b.Run("event", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if answer, err := run(b.Context(), event); err != nil || answer.StatusCode != 200 {
				b.Fatal(answer, err)
			}
		}
	})
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Store.OrganizationByClaim(b.Context(), "org_warm"); err != nil {
				b.Fatal(err)
			}
		}
	})
	organizations := db.Client.Database(db.Name).Collection("organizations")
	b.Run("driver", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := organizations.FindOne(b.Context(), bson.D{{Key: "claims", Value: "org_warm"}}).Raw(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
