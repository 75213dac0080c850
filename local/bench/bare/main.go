// Command bare is a Lambda function that does only what an endpoint can't do without:
// the comparison of a password, and calls of the driver.
package main

import (
	"context"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/errgroup"
)

// event says what to do: wave after wave the calls, which of one wave go at once, and
// after the first wave a comparison, if there is a password.
type event struct {
	Password, Hash string
	Waves          [][]call
}

// call looks for a document by a field, or writes a document.
type call struct {
	Collection, Field string
	ID, Text          string // one of them is the value of the field
	Write             bool
}

func main() {
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGO_URL")).SetMaxPoolSize(5).SetTimeout(3 * time.Second))
	if err != nil {
		panic(err)
	}
	database := client.Database(os.Getenv("MASTER_DB"))
	lambda.Start(func(ctx context.Context, e event) (found []bson.M, err error) {
		for n, wave := range e.Waves {
			if n == 1 && e.Password != "" {
				if err := bcrypt.CompareHashAndPassword([]byte(e.Hash), []byte(e.Password)); err != nil {
					return nil, err
				}
			}
			group, ctx := errgroup.WithContext(ctx)
			found = make([]bson.M, len(wave))
			for i, c := range wave {
				group.Go(func() error {
					var value any = c.Text
					if c.ID != "" {
						id, err := bson.ObjectIDFromHex(c.ID)
						if err != nil {
							return err
						}
						value = id
					}
					filter := bson.D{{Key: c.Field, Value: value}}
					if c.Write {
						_, err := database.Collection(c.Collection).UpdateOne(ctx, filter, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}, options.UpdateOne().SetUpsert(true))
						return err
					}
					return database.Collection(c.Collection).FindOne(ctx, filter).Decode(&found[i])
				})
			}
			if err := group.Wait(); err != nil {
				return nil, err
			}
		}
		return found, nil
	})
}
